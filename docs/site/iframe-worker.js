// Lets the search work where pages are opened from the disk. The theme searches in a worker, which
// browsers do not start from there; here its script runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      // What the script calls as a worker: by itself, a frame would send to itself.
      const answer =
        "postMessage = (data) => frameElement.worker.dispatchEvent(" +
        'new MessageEvent("message", { data }))';
      const script = new URL(address, document.baseURI);
      this.frame.srcdoc = `<script>${answer}</script><script src="${script}"></script>`;
      this.frame.worker = this;
      this.loaded = new Promise((resolve) => (this.frame.onload = resolve));
      document.body.append(this.frame);
    }

    postMessage(data) {
      this.loaded.then(() =>
        this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })),
      );
    }

    terminate() {
      this.frame.remove();
    }
  };
  // By this name the theme's script knows that it is in a frame.
  window.IFrameWorker = window.Worker;
}
