"""A pack -> ONNX graphs with their settings, and the parts of inference run on them by onnxruntime."""
