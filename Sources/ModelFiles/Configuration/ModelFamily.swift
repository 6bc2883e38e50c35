/// An architecture that can be loaded: its switches, and what transformers 5 takes where `config.json` says nothing.
struct ModelFamily: Sendable {
  /// Which layers attend to a window of the last tokens only.
  enum Window: Sendable, Equatable {
    /// None: the key `sliding_window` means nothing.
    case none
    /// All, where `sliding_window` is a number; the default is that of a missing key.
    case everywhere(default: Int?)
    /// Those that `layer_types` lists, else the ones from `max_window_layers` on, where `use_sliding_window` is true.
    case fromLayer
    /// Those that `layer_types` lists, else the ones without rotary positions, where `use_sliding_window` is true.
    case unrotated
  }

  /// Which projections have a bias.
  enum Bias: Sendable, Equatable {
    case none
    /// Queries, keys and values.
    case queryKeyValue
    /// Queries, keys, values and the output, where `attention_bias` is true.
    case attention
    /// As `attention`, and the feed-forward block where `mlp_bias` is true.
    case attentionAndMLP
  }

  /// The class of transformers.
  let architecture: String
  /// `model_type`.
  let modelType: String
  /// `general.architecture` of a GGUF; `nil` where llama.cpp has no name of its own for it.
  let ggufName: String?
  var bias = Bias.none
  var window = Window.none
  /// Whether each query and key head has an RMSNorm.
  var normalizesHeads = false
  /// Whether some layers have no rotary positions.
  var skipsRotation = false
  /// Whether `partial_rotary_factor` means something.
  var rotatesPartially = false
  /// Whether llama.cpp's converter turned the halves of each query and key head into pairs of neighbours.
  var pairsNeighboursInGGUF = false
  var rmsNormEpsilon = 1e-6
  var contextLength = 32768
  /// `nil`: as many as heads.
  var keyValueHeadCount: Int?
  /// `nil`: the width divided by the heads.
  var headDimension: Int?
  var ropeTheta = 10000.0
  var tiesEmbeddings = false

  /// The architectures that can be loaded, in the order of messages.
  static let all = [
    ModelFamily(
      architecture: "LlamaForCausalLM", modelType: "llama", ggufName: "llama", bias: .attentionAndMLP,
      pairsNeighboursInGGUF: true, contextLength: 2048),
    // llama.cpp calls Mistral's models "llama".
    ModelFamily(
      architecture: "MistralForCausalLM", modelType: "mistral", ggufName: nil, window: .everywhere(default: 4096),
      contextLength: 131_072, keyValueHeadCount: 8),
    ModelFamily(
      architecture: "Phi3ForCausalLM", modelType: "phi3", ggufName: "phi3", window: .everywhere(default: nil),
      rotatesPartially: true, rmsNormEpsilon: 1e-5, contextLength: 4096),
    ModelFamily(
      architecture: "Qwen2ForCausalLM", modelType: "qwen2", ggufName: "qwen2", bias: .queryKeyValue,
      window: .fromLayer, keyValueHeadCount: 32),
    ModelFamily(
      architecture: "Qwen3ForCausalLM", modelType: "qwen3", ggufName: "qwen3", bias: .attention, window: .fromLayer,
      normalizesHeads: true, keyValueHeadCount: 32, headDimension: 128),
    ModelFamily(
      architecture: "SmolLM3ForCausalLM", modelType: "smollm3", ggufName: "smollm3", bias: .attentionAndMLP,
      window: .unrotated, skipsRotation: true, pairsNeighboursInGGUF: true, keyValueHeadCount: 4, ropeTheta: 2_000_000,
      tiesEmbeddings: true),
  ]

  /// The family of an architecture's name.
  static func named(_ architecture: String) -> ModelFamily? { all.first { $0.architecture == architecture } }
}
