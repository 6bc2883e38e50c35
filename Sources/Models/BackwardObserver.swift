import Tensors

/// Who looks on while gradients go back through a model.
package struct BackwardObserver {
  /// The gradients go back to this layer and no further.
  package var lowestLayer: Int
  /// Chooses the token that each row of logits, fp32 `[rows, vocabulary]`, is to be likelier for.
  package var draw: (_ logits: Tensor) throws -> [Int32]
  /// Receives a layer, modules that read the same x `[T, inputs]`, x, and the gradient of what each wrote, `[T, outputs]`;
  /// both in the compute type, and only until the call returns.
  package var observe: (_ layer: Int, _ modules: [TargetModule], _ x: Tensor, _ gradients: [Tensor]) throws -> Void

  /// An observer from its parts.
  package init(
    lowestLayer: Int = 0, draw: @escaping (Tensor) throws -> [Int32],
    observe: @escaping (Int, [TargetModule], Tensor, [Tensor]) throws -> Void
  ) {
    self.lowestLayer = lowestLayer
    self.draw = draw
    self.observe = observe
  }
}
