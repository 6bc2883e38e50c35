/// What a layer keeps of its forward pass for its backward pass; the rest is computed again.
public enum LayerMemory: Int, Sendable, Comparable, CaseIterable {
  /// The residual stream before the layer: everything is computed again.
  case input
  /// That, and attention's output and statistics: attention is not computed again.
  case attention
  /// All but what the MLP's products yield: gate and up are computed again.
  case projections
  /// Everything that a product or attention yields.
  case everything

  /// Less is kept first.
  public static func < (a: LayerMemory, b: LayerMemory) -> Bool { a.rawValue < b.rawValue }
}

/// Which layers compute which activations again in the backward pass instead of keeping them.
public enum RecomputePolicy: Sendable, Equatable {
  /// Every layer keeps its activations: fastest.
  case none
  /// The first `count` layers keep only their input.
  case layers(Int)
  /// Every layer keeps only its input: least memory.
  case all
  /// What each layer keeps, from the first on; layers beyond the list keep everything.
  case levels([LayerMemory])

  /// What a layer of `count` layers keeps.
  public func level(of layer: Int, of count: Int) -> LayerMemory {
    switch self {
    case .none: .everything
    case .layers(let recomputed): layer < recomputed ? .input : .everything
    case .all: .input
    case .levels(let levels): layer < levels.count ? levels[layer] : .everything
    }
  }
}
