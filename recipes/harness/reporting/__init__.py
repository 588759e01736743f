"""What is shown of runs: tables, figures, cards, TensorBoard, and what is published of them."""
