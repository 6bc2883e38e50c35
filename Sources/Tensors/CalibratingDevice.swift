/// A device that computes the sums of calibration where the activations are.
public protocol CalibratingDevice: Device {
  /// Adds to `dots`, fp32 `[1, rows]`, the dot product of each row of `a` with that of `b`; `b` in the compute type.
  func addRowDots(_ a: Tensor, _ b: Tensor, to dots: Tensor) throws
  /// y = x with each row times its factor, fp32 `[1, rows]`; both in the compute type.
  func scaleRows(_ x: Tensor, by factors: Tensor, into y: Tensor) throws
  /// y = x · (NF4(W) − W)ᵀ, `[rows, outputs]`: what going to the nearest codes changes in the product with a matrix that is kept
  /// in 16 bits.
  func nf4Change(_ x: Tensor, of matrix: any FrozenMatrix, into y: Tensor) throws
}
