/// The seven linear layers of a Llama block, under the names that checkpoints and PEFT use.
public enum TargetModule: String, Sendable, CaseIterable {
  case query = "q_proj"
  case key = "k_proj"
  case value = "v_proj"
  case output = "o_proj"
  case gate = "gate_proj"
  case up = "up_proj"
  case down = "down_proj"

  /// The block's part that the module belongs to, as tensor names spell it.
  var parent: String {
    switch self {
    case .query, .key, .value, .output: "self_attn"
    case .gate, .up, .down: "mlp"
    }
  }

  /// "model.layers.3.self_attn.q_proj".
  func path(layer: Int) -> String { "model.layers.\(layer).\(parent).\(rawValue)" }
}

/// What an adapter looks like (Hu et al., 2021).
public struct LoRAConfiguration: Sendable, Equatable {
  /// Rank of every pair.
  public var rank: Int
  /// The pair's product is scaled by alpha / rank.
  public var alpha: Double
  /// Scale by alpha / √rank instead (Kalajdzievski, 2023).
  public var useRSLoRA: Bool
  /// Probability that an element of an adapter's input is dropped in training.
  public var dropout: Double
  /// Which linear layers learn a pair.
  public var targetModules: Set<TargetModule>

  /// A configuration; the defaults are Unsloth's and ours.
  public init(
    rank: Int = 16, alpha: Double = 16, useRSLoRA: Bool = false, dropout: Double = 0,
    targetModules: Set<TargetModule> = Set(TargetModule.allCases)
  ) {
    self.rank = rank
    self.alpha = alpha
    self.useRSLoRA = useRSLoRA
    self.dropout = dropout
    self.targetModules = targetModules
  }

  /// What the pair's product is multiplied by.
  public var scale: Double { useRSLoRA ? alpha / Double(rank).squareRoot() : alpha / Double(rank) }
}
