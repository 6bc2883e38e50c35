/// The shapes of frozen matrices that are multiplied with the same x, before there are any.
public struct FrozenShape: Sendable, Equatable {
  /// Outputs of each matrix.
  public var outputs: [Int]
  /// Inputs of all of them.
  public var inputs: Int
  /// How each matrix is kept.
  public var storage: [FrozenStorage]
  /// What the matrices are multiplied for; nothing where only rows are looked up.
  public var directions: ProductDirections
  /// The segment of a ``MatrixStream`` that they belong to; nil where they stay on the device.
  public var segment: Int?

  /// Shapes from their parts.
  public init(
    outputs: [Int], inputs: Int, storage: [FrozenStorage], directions: ProductDirections, segment: Int? = nil
  ) {
    self.outputs = outputs
    self.inputs = inputs
    self.storage = storage
    self.directions = directions
    self.segment = segment
  }
}

/// Bytes that a model takes, said before it is loaded.
public struct FrozenFootprint: Sendable, Equatable {
  /// What the matrices take of the device's memory, places of a stream included.
  public var matrices: Int
  /// What the device needs beside them and beside what a pass reserves.
  public var working: Int
  /// What the segments of a stream take of the host's memory, all alike.
  public var host: Int

  /// A footprint from its parts.
  public init(matrices: Int, working: Int, host: Int = 0) {
    self.matrices = matrices
    self.working = working
    self.host = host
  }
}
