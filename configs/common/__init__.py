"""What experiments share: one object or one function per file."""
