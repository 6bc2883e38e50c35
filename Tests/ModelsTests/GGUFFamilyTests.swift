import CBlockFormats
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
  ///
  /// `formats`: of the matrices, in turn; fp32 without any. `decoded`: whether they are written as what they decode to.
  private func gguf(
    _ tiny: TinyModel, _ family: Family, formats: [StorageFormat] = [], decoded: Bool = false
  ) throws -> [UInt8] {
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
    for (index, (name, shape)) in tiny.tensors.enumerated() {
      var values = tiny.values(name, shape)
      for (projection, heads) in [("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")]
      where family.pairs && name.contains(".\(projection).") {
        values = paired(values, rows: shape[0], heads: tiny.size(heads))
      }
      guard shape.count > 1, !formats.isEmpty else {
        builder.addTensor(other(name), shape: shape, values)
        continue
      }
      let (id, format, decode) = try #require(Self.block(formats[index % formats.count]))
      let blocks = values.count / format.block.length
      var bytes = [UInt8](repeating: 0, count: blocks * format.block.byteCount)
      try values.withUnsafeBufferPointer { values in
        try bytes.withUnsafeMutableBytes {
          try format.encode(values, into: #require($0.baseAddress), of: name, path: "test")
        }
      }
      if decoded {
        decode(bytes, Int64(blocks), &values)
        builder.addTensor(other(name), shape: shape, values)
      } else {
        builder.addTensor(other(name), shape.reversed().map { UInt64($0) }, type: id, bytes)
      }
    }
    return builder.build()
  }

  /// A format's number in GGUF and its decoder.
  private static func block(_ format: StorageFormat) -> (UInt32, StorageFormat, sl_block_decoder)? {
    switch format {
    case .q4_0: (2, format, sl_decode_q4_0)
    case .q4_1: (3, format, sl_decode_q4_1)
    case .q5_0: (6, format, sl_decode_q5_0)
    case .q5_1: (7, format, sl_decode_q5_1)
    case .q8_0: (8, format, sl_decode_q8_0)
    case .q4_K: (12, format, sl_decode_q4_k)
    case .q5_K: (13, format, sl_decode_q5_k)
    case .q6_K: (14, format, sl_decode_q6_k)
    default: nil
    }
  }

  /// Matrices that stay in blocks against the numbers that they decode to: prompts, single tokens, an adapter, training.
  @Test(arguments: [[StorageFormat.q4_0, .q4_1, .q5_0, .q5_1, .q8_0], [.q4_K, .q5_K, .q6_K]])
  func blocksAreTheNumbersTheyDecodeTo(_ formats: [StorageFormat]) throws {
    let isLarge = formats[0].block.length == 256
    let tiny = TinyModel(
      changing: [
        "hidden_size": isLarge ? 256 : 96, "intermediate_size": isLarge ? 512 : 160, "num_hidden_layers": 3,
        "tie_word_embeddings": false,
      ], seed: UInt64.random(in: 0...1 << 40))
    let family = Self.families[0]
    let folder = try TemporaryFolder()
    let blocks = try folder.write("blocks.gguf", gguf(tiny, family, formats: formats))
    let floats = try folder.write("floats.gguf", gguf(tiny, family, formats: formats, decoded: true))
    let tokens = ModelCase(description: "", tiny: tiny, lora: LoRAConfiguration()).tokens(40)
    func run(_ path: String, _ compute: CPUDevice.Compute) throws -> (logits: [[Float]], loss: Double, bytes: Int) {
      let model = try LanguageModel(Checkpoint.open(path: path), on: CPUDevice(compute: compute))
      let adapter = try model.makeAdapter(LoRAConfiguration(rank: 4), training: true)
      try adapter.set((0..<adapter.count).map { Float(($0 * 7919) % 101 - 50) * 2e-3 })
      var bytes = model.head.byteCount
      for block in model.blocks { for module in TargetModule.allCases { bytes += block[module].matrix.byteCount } }
      var logits: [[Float]] = []
      for adapter in [nil, adapter] {
        model.attach(adapter)
        let cache = try model.makeCache(capacity: tokens.count)
        logits.append(try model.extend(cache, with: Array(tokens[..<33])))
        for token in tokens[33...] { logits.append(try model.extend(cache, with: [token])) }
      }
      // Training packs the matrices anew, in both directions.
      try model.prepareForTraining()
      var batch = PackedBatch()
      batch.append(tokens, isTrained: tokens.map { _ in true })
      let loss = try model.forwardBackward(batch, lossScale: 1)
      let cache = try model.makeCache(capacity: tokens.count)
      logits.append(try model.extend(cache, with: tokens))
      return (logits, loss, bytes)
    }
    for (compute, tolerance) in [(CPUDevice.Compute.float32, 1e-5), (.bfloat16, 0.05)] {
      let (found, expected) = (try run(blocks, compute), try run(floats, .float32))
      for (a, b) in zip(found.logits, expected.logits) {
        #expect(relativeError(a, b.map { Double($0) }) < tolerance, "\(compute)")
      }
      #expect(abs(found.loss / expected.loss - 1) < tolerance)
      #expect(found.bytes < expected.bytes / 3)
    }
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
