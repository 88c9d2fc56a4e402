"""Images with one class each, in ImageNet's folders."""
