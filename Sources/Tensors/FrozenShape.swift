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

  /// Shapes from their parts.
  public init(outputs: [Int], inputs: Int, storage: [FrozenStorage], directions: ProductDirections) {
    self.outputs = outputs
    self.inputs = inputs
    self.storage = storage
    self.directions = directions
  }
}

/// Bytes of a device's memory that a model takes, said before it is loaded.
public struct FrozenFootprint: Sendable, Equatable {
  /// What the matrices take.
  public var matrices: Int
  /// What the device needs beside them and beside what a pass reserves.
  public var working: Int

  /// A footprint from its parts.
  public init(matrices: Int, working: Int) {
    self.matrices = matrices
    self.working = working
  }
}
