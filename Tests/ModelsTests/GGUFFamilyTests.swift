import CPUDevice
import JSONValues
import ModelFiles
import TestSupport
import Testing

@testable import Models

/// A model of each family as llama.cpp's converter writes it must be the model of the Hugging Face folder.
@Suite struct GGUFFamilyTests {
  struct Family: Sendable, CustomTestStringConvertible {
    var name: String
    var changes: JSONObject
    /// Whether the converter turns the halves of each query and key head into pairs of neighbours.
    var pairs = false
    var testDescription: String { name }
  }

  static let families = [
    Family(name: "llama", changes: [:], pairs: true),
    Family(name: "phi3", changes: ["architectures": ["Phi3ForCausalLM"], "model_type": "phi3"]),
    Family(
      name: "phi3",
      changes: [
        "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 32, "partial_rotary_factor": 0.75,
        "sliding_window": 6,
      ]),
    Family(name: "qwen2", changes: ["architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"]),
    Family(
      name: "qwen3",
      changes: ["architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 8]),
    Family(
      name: "smollm3",
      changes: ["architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "num_hidden_layers": 5], pairs: true),
  ]

  private static let names = [
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers": "blk",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.gate_up_proj": "ffn_up", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
  ]

  /// The file that the converter would write.
  private func gguf(_ tiny: TinyModel, _ family: Family) -> [UInt8] {
    var builder = GGUFBuilder()
    builder.add("general.architecture", family.name)
    for (key, name) in [
      ("num_hidden_layers", "block_count"), ("max_position_embeddings", "context_length"),
      ("hidden_size", "embedding_length"), ("intermediate_size", "feed_forward_length"),
      ("num_attention_heads", "attention.head_count"), ("num_key_value_heads", "attention.head_count_kv"),
    ] { builder.add("\(family.name).\(name)", UInt32(tiny.size(key))) }
    builder.add("\(family.name).attention.key_length", UInt32(tiny.headDimension))
    let part = tiny.config["partial_rotary_factor"]?.double ?? 1
    builder.add("\(family.name).rope.dimension_count", UInt32(Double(tiny.headDimension) * part))
    builder.add("\(family.name).attention.layer_norm_rms_epsilon", Float(1e-5))
    builder.add("\(family.name).rope.freq_base", Float(10000))
    if let window = tiny.config["sliding_window"]?.integer {
      builder.add("\(family.name).attention.sliding_window", UInt32(window))
    }
    for (name, shape) in tiny.tensors {
      var values = tiny.values(name, shape)
      for (projection, heads) in [("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")]
      where family.pairs && name.contains(".\(projection).") {
        values = paired(values, rows: shape[0], heads: tiny.size(heads))
      }
      builder.addTensor(other(name), shape: shape, values)
    }
    return builder.build()
  }

  private func other(_ name: String) -> String {
    // The longest first: "mlp.gate_proj" before nothing that begins it.
    Self.names.sorted { $0.key.utf8.count > $1.key.utf8.count }.reduce(name) { $0.replacing($1.key, with: $1.value) }
  }

  /// Rows of each head in the order 0, half, 1, half + 1 and so on.
  private func paired(_ values: [Float], rows: Int, heads: Int) -> [Float] {
    let (width, head) = (values.count / rows, rows / heads)
    return (0..<rows).flatMap { row in
      let within = row % head
      let source = row / head * head + within / 2 + within % 2 * (head / 2)
      return values[source * width..<(source + 1) * width]
    }
  }

  @Test(arguments: families)
  func logitsAreThoseOfTheFolder(_ family: Family) throws {
    let tiny = TinyModel(changing: family.changes, seed: 77)
    let folder = try TemporaryFolder()
    try tiny.write(to: folder)
    let path = try folder.write("model.gguf", gguf(tiny, family))
    let tokens = ModelCase(description: "", tiny: tiny, lora: LoRAConfiguration()).tokens(21)
    func logits(_ path: String) throws -> [Float] {
      try LanguageModel(Checkpoint.open(path: path), on: CPUDevice(compute: .float32)).logits(tokens)
    }
    #expect(try Checkpoint.open(path: path).configuration == Checkpoint.open(path: folder.path).configuration)
    #expect(try logits(path) == logits(folder.path))
  }
}
