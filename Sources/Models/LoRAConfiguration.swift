import ModelFiles

/// The seven linear layers of a Llama block.
public typealias TargetModule = ModelFiles.TargetModule

/// What an adapter looks like (Hu et al., 2021).
public struct LoRAConfiguration: Sendable, Equatable {
  /// Rank of every pair.
  public var rank: Int
  /// The pair's product is scaled by alpha / rank.
  public var alpha: Double
  /// Scale by alpha / √rank instead (Kalajdzievski, 2023).
  public var useRSLoRA: Bool
  /// Whether each row of W + s·B·A learns its length apart from its direction (DoRA; Liu et al., 2024).
  public var useDoRA: Bool
  /// Probability that an element of an adapter's input is dropped in training.
  public var dropout: Double
  /// Which linear layers learn a pair.
  public var targetModules: Set<TargetModule>

  /// A configuration; the defaults are Unsloth's and ours.
  public init(
    rank: Int = 16, alpha: Double = 16, useRSLoRA: Bool = false, useDoRA: Bool = false, dropout: Double = 0,
    targetModules: Set<TargetModule> = Set(TargetModule.allCases)
  ) {
    self.rank = rank
    self.alpha = alpha
    self.useRSLoRA = useRSLoRA
    self.useDoRA = useDoRA
    self.dropout = dropout
    self.targetModules = targetModules
  }

  /// What the pair's product is multiplied by.
  public var scale: Double { useRSLoRA ? alpha / Double(rank).squareRoot() : alpha / Double(rank) }
}
