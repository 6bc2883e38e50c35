import Glibc
import JSONValues

/// A model of a few thousand weights, drawn from a seed by a rule that `Tests/Golden/tiny_models.py` follows too.
///
/// The keys are those of `config.json`. Element i of a tensor is a function of u, uniform in -1..<1: the top 24 bits of
/// output i of SplitMix64, whose state begins at seed ^ FNV-1a(name). Norms are 1 + u/4, biases u/2, the embedding u and
/// matrices u·√(3/inputs), computed in double and rounded to fp32.
public struct TinyModel: Sendable {
  /// What `config.json` holds.
  public var config: JSONObject
  /// What the weights are drawn from.
  public var seed: UInt64

  /// Three layers of width 16 with 4 heads, 2 of them for keys and values, 24 within the feed-forward block, 24 tokens.
  public static let small: JSONObject = [
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 24, "hidden_size": 16,
    "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5, "rope_theta": 10000, "max_position_embeddings": 2048, "tie_word_embeddings": true,
  ]

  /// ``small`` with other values of some keys.
  public init(changing changes: JSONObject = [:], seed: UInt64 = 1) {
    var config = Self.small
    for (key, value) in changes { config[key] = value }
    self.config = config
    self.seed = seed
  }

  /// A model of exactly these keys.
  public init(config: JSONObject, seed: UInt64) {
    self.config = config
    self.seed = seed
  }

  /// The text of `config.json`.
  public var text: String { JSONValue.object(config).serialized(pretty: true) }

  /// The number at a key, which must be there.
  public func size(_ key: String) -> Int { config[key]?.integer ?? 0 }

  /// Features of a head.
  public var headDimension: Int {
    config["head_dim"]?.integer ?? size("hidden_size") / max(1, size("num_attention_heads"))
  }

  /// Names and shapes of all tensors.
  public var tensors: [(name: String, shape: [Int])] {
    let (hidden, inner, vocabulary) = (size("hidden_size"), size("intermediate_size"), size("vocab_size"))
    let queries = size("num_attention_heads") * headDimension
    let keys = size("num_key_value_heads") * headDimension
    var tensors: [(name: String, shape: [Int])] = [("model.embed_tokens.weight", [vocabulary, hidden])]
    let type = config["model_type"]?.string
    let outputBias = config["attention_bias"]?.bool == true
    let attentionBias = outputBias || type == "qwen2"
    let mlpBias = config["mlp_bias"]?.bool == true
    for layer in 0..<size("num_hidden_layers") {
      let (attention, mlp) = ("model.layers.\(layer).self_attn", "model.layers.\(layer).mlp")
      tensors += [
        ("model.layers.\(layer).input_layernorm.weight", [hidden]),
        ("model.layers.\(layer).post_attention_layernorm.weight", [hidden]),
        ("\(attention).o_proj.weight", [hidden, queries]), ("\(mlp).down_proj.weight", [hidden, inner]),
      ]
      if type == "phi3" {
        tensors += [
          ("\(attention).qkv_proj.weight", [queries + 2 * keys, hidden]),
          ("\(mlp).gate_up_proj.weight", [2 * inner, hidden]),
        ]
      } else {
        tensors += [
          ("\(attention).q_proj.weight", [queries, hidden]), ("\(attention).k_proj.weight", [keys, hidden]),
          ("\(attention).v_proj.weight", [keys, hidden]), ("\(mlp).gate_proj.weight", [inner, hidden]),
          ("\(mlp).up_proj.weight", [inner, hidden]),
        ]
      }
      if attentionBias {
        tensors += [
          ("\(attention).q_proj.bias", [queries]), ("\(attention).k_proj.bias", [keys]),
          ("\(attention).v_proj.bias", [keys]),
        ]
      }
      if outputBias { tensors.append(("\(attention).o_proj.bias", [hidden])) }
      if mlpBias {
        tensors += [
          ("\(mlp).gate_proj.bias", [inner]), ("\(mlp).up_proj.bias", [inner]), ("\(mlp).down_proj.bias", [hidden]),
        ]
      }
      if type == "qwen3" {
        tensors += [
          ("\(attention).q_norm.weight", [headDimension]), ("\(attention).k_norm.weight", [headDimension]),
        ]
      }
    }
    tensors.append(("model.norm.weight", [hidden]))
    if config["tie_word_embeddings"]?.bool != true { tensors.append(("lm_head.weight", [vocabulary, hidden])) }
    return tensors
  }

  /// The elements of a tensor.
  public func values(_ name: String, _ shape: [Int]) -> [Float] {
    Self.uniform(name, count: shape.reduce(1, *), seed: seed).map { u in
      if name.hasSuffix("norm.weight") { return Float(1 + u / 4) }
      if name.hasSuffix("bias") { return Float(u / 2) }
      if name.hasSuffix("embed_tokens.weight") { return Float(u) }
      return Float(u * (3 / Double(shape[1])).squareRoot())
    }
  }

  /// Values in -1..<1 that only a name and a seed decide.
  public static func uniform(_ name: String, count: Int, seed: UInt64) -> [Double] {
    let hash = name.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    var random = SeededRandom(seed: hash ^ seed)
    return (0..<count).map { _ in Double(random.next() >> 40) / 8_388_608 - 1 }
  }

  /// Writes `config.json` and `model.safetensors` into a folder, or one inside it, which is made where it is missing;
  /// `change` may spoil a tensor first.
  public func write(
    to folder: TemporaryFolder, in name: String? = nil, change: (String, inout [Float]) -> Void = { _, _ in }
  ) throws {
    let place = name.map { $0 + "/" } ?? ""
    if let name, access("\(folder.path)/\(name)", F_OK) != 0 { try folder.makeFolder(name) }
    var header = JSONObject()
    var data: [UInt8] = []
    for (name, shape) in tensors {
      var values = values(name, shape)
      change(name, &values)
      let start = data.count
      data += GGUFBuilder.bytes(values)
      header[name] = [
        "dtype": "F32", "shape": .array(shape.map { .integer($0) }),
        "data_offsets": [.integer(start), .integer(data.count)],
      ]
    }
    var head = Array(JSONValue.object(header).serialized().utf8)
    while head.count % 8 != 0 { head.append(32) }
    _ = try folder.write(place + "config.json", text)
    _ = try folder.write(place + "model.safetensors", GGUFBuilder.bytes(UInt64(head.count)) + head + data)
  }
}

extension JSONObject {
  /// The object with other values of some keys.
  public func merged(_ changes: JSONObject) -> JSONObject {
    var result = self
    for (key, value) in changes { result[key] = value }
    return result
  }
}
