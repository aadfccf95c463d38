"""What runs the network: torch, ONNX Runtime, OpenVINO and CUDA, and the measured choice between them."""
