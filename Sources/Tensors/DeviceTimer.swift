/// What a device's time counts as.
public enum TimeShare: String, Sendable, CaseIterable {
  /// Products with the frozen weights and the adapters, and the activation between them where a device does both at once.
  case matrixProducts = "matrix_products"
  /// Attention.
  case attention
  /// Frozen weights made operands again.
  case dequantization
  /// Norms, rotation, activation, biases.
  case elementwise
  /// The head's cross-entropy, without its products.
  case crossEntropy = "cross_entropy"
  /// AdamW, clipping, and the adapter's copies.
  case optimizer
  /// Copies, gathers, uploads.
  case memory
}

/// Adds up where a device's time goes, by marks in the order of its work, which it does not wait for.
public protocol DeviceTimer: AnyObject {
  /// What follows counts as `share`, also within another's time, which is then so much less.
  func begin(_ share: TimeShare) throws
  /// Ends what began last.
  func end() throws
  /// Waits, and gives the seconds of each share since the timer was made.
  func seconds() throws -> [TimeShare: Double]
}
