import ModelFiles

/// A linear layer of a block, or several that are fused, and what quantizing it costs.
public struct LinearLayer: Sendable {
  /// As the checkpoint names it: "model.layers.3.mlp.down_proj".
  public let name: String
  /// The block.
  public let layer: Int
  /// One, or those that are fused.
  public let modules: [TargetModule]
  /// Weights.
  public let parameterCount: Int
  /// Bytes that 16 bits take beyond four.
  public let extraByteCount: Int
  /// Predicted KL in nats per token when it alone goes to the nearest codes; nil without calibration.
  public internal(set) var sensitivity: Double?
  /// Predicted KL with the codes that it gets.
  public internal(set) var predictedKL: Double?
  /// ‖error‖² / ‖weights‖² of the codes that it gets; nil where they were not looked at.
  public internal(set) var relativeError: Double?
  /// Whether it stays in 16 bits.
  public internal(set) var isKept = false
  /// Its tensor in the export.
  let tensor: Int
}
