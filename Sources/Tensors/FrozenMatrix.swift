/// A weight matrix that training does not change, in whatever layout its device multiplies fastest.
///
/// Only the device that made it can use it.
public protocol FrozenMatrix: AnyObject, Sendable {
  /// The number of output features: rows of the matrix as checkpoints store it.
  var outputs: Int { get }
  /// The number of input features: columns of the matrix as checkpoints store it.
  var inputs: Int { get }
  /// Bytes that it takes on the device.
  var byteCount: Int { get }
}

/// Which products a frozen matrix must serve.
public struct ProductDirections: OptionSet, Sendable {
  /// One bit per direction.
  public let rawValue: Int
  /// An option set from its raw value.
  public init(rawValue: Int) { self.rawValue = rawValue }

  /// Y = X · Wᵀ.
  public static let forward = ProductDirections(rawValue: 1)
  /// dX = dY · W.
  public static let backward = ProductDirections(rawValue: 2)
}
