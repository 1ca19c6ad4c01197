"""The success classifier: an image model that presses the button when it is sure."""
