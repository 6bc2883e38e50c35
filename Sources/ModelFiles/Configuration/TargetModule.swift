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
  public var parent: String {
    switch self {
    case .query, .key, .value, .output: "self_attn"
    case .gate, .up, .down: "mlp"
    }
  }

  /// "model.layers.3.self_attn.q_proj".
  public func path(layer: Int) -> String { "model.layers.\(layer).\(parent).\(rawValue)" }
}

extension ModelConfiguration {
  /// A module's output and input features.
  public func size(of module: TargetModule) -> (outputs: Int, inputs: Int) {
    let (queries, keys) = (headCount * headDimension, keyValueHeadCount * headDimension)
    return switch module {
    case .query: (queries, hiddenSize)
    case .key, .value: (keys, hiddenSize)
    case .output: (hiddenSize, queries)
    case .gate, .up: (intermediateSize, hiddenSize)
    case .down: (hiddenSize, intermediateSize)
    }
  }

  /// Whether a module adds a bias.
  public func hasBias(_ module: TargetModule) -> Bool {
    switch module {
    case .query, .key, .value: attentionBias
    case .output: outputBias
    case .gate, .up, .down: mlpBias
    }
  }
}
