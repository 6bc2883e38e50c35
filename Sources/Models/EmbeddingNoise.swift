import Tensors

#if canImport(Glibc)
  import Glibc
#endif

/// Uniform noise on the embeddings of training's tokens (NEFTune; Jain et al., 2023).
public struct EmbeddingNoise: Sendable, Equatable {
  /// The noise of a document of T tokens of width H is uniform in ±alpha / √(T · H).
  public var alpha: Double
  /// What makes a step's noise reproducible.
  public var key: DropoutKey

  /// Noise of a size, by a key.
  public init(alpha: Double, key: DropoutKey) {
    self.alpha = alpha
    self.key = key
  }

  /// Adds each document's noise to its rows of the residual stream `x`.
  package func add(to x: Tensor, _ documents: [Range<Int>], on device: any Device) throws {
    for (index, document) in documents.enumerated() where !document.isEmpty {
      // A stream that no pair's dropout has: those end before half a million.
      try device.addNoise(
        to: x.rows(document), bound: Float(alpha / Double(document.count * x.columns).squareRoot()), seed: key.seed,
        stream: key.counter << 20 ^ (1 << 19 | UInt64(index)))
    }
  }
}
