import Tensors

/// Where the gradients of a block's vectors are added up.
struct VectorGradients {
  /// Of γ before attention and before the MLP: fp32 `[1, hidden]`.
  var attentionNorm: Tensor
  var mlpNorm: Tensor
  /// Of the biases: fp32 `[1, outputs]`.
  var biases: [TargetModule: Tensor]
}

// What full fine-tuning adds to a block's backward pass.
extension Block {
  /// Adds dyᵀ · x to the gradients of modules that read the same x, and the sums of dy to those of their biases.
  func addWeightGradients(_ gradients: [Tensor], _ x: Tensor, _ modules: [TargetModule], on device: any Device) throws {
    for (dy, module) in zip(gradients, modules) {
      if let gradient = self[module].gradient { try device.addWeightGradient(dy, x, to: gradient) }
      if let bias = vectorGradients?.biases[module] {
        try device.addColumnSums(of: dy, times: nil, rowScales: nil, to: bias)
      }
    }
  }

  /// Adds Σ dy · x · rstd to the gradient of a norm's γ, where it learns.
  func addNormGradient(
    _ dy: Tensor, _ x: Tensor, _ rstd: Tensor, _ gradient: Tensor?, on device: any Device
  ) throws {
    if let gradient { try device.addColumnSums(of: dy, times: x, rowScales: rstd, to: gradient) }
  }
}
