"""What goes to TensorBoard, and the server that shows it."""
