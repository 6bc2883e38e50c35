import JSONValues
import TestSupport
import Testing

@testable import ModelFiles

@Suite struct CheckpointTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  func open(_ builder: GGUFBuilder) throws -> Checkpoint {
    try Checkpoint.open(path: try folder.write("x.gguf", builder.build()))
  }

  @Test func readsTheConfigurationOfAGGUF() throws {
    let checkpoint = try open(.tinyLlama())
    #expect(
      checkpoint.configuration
        == ModelConfiguration(
          vocabularySize: 12, hiddenSize: 8, intermediateSize: 16, layerCount: 2, headCount: 2, keyValueHeadCount: 1,
          rmsNormEpsilon: 1e-5, contextLength: 64, tiesEmbeddings: true, bosTokenID: 1, eosTokenIDs: [2]))
    guard case .gguf(let gguf) = checkpoint.tokenizerSource else {
      Issue.record("the tokenizer of a GGUF is in the GGUF")
      return
    }
    #expect(try gguf.metadata.strings("tokenizer.ggml.tokens")?.count == 12)
  }

  @Test func namesAreHuggingFaces() throws {
    let checkpoint = try open(.tinyLlama())
    #expect(checkpoint.tensorNames.count == 20)
    #expect(checkpoint.tensorNames.first == "model.embed_tokens.weight")
    #expect(checkpoint.contains("model.layers.1.mlp.down_proj.weight"))
    #expect(!checkpoint.contains("lm_head.weight"))
    #expect(try checkpoint.tensor("model.layers.0.self_attn.k_proj.weight", shape: [4, 8]).format == .float32)
    expectError("tensor 'lm_head.weight' is missing") { _ = try checkpoint.tensor("lm_head.weight") }
    expectError("tensor 'model.norm.weight' has the shape [8], [9] was expected") {
      _ = try checkpoint.tensor("model.norm.weight", shape: [9])
    }
    for name in ["blk.x.attn_q.weight", "blk.01.attn_q.weight", "blk.1.attn_q", "blk.1.attn_q.scale", "a", ""] {
      #expect(GGUFTensorNames.huggingFace(name) == nil)
    }
  }

  @Test func queriesAndKeysComeOutInHuggingFacesOrder() throws {
    var builder = GGUFBuilder.tinyLlama()
    // Two heads of 4 rows: llama.cpp stores 0 2 1 3 of each, in pairs of (first half, second half).
    builder.addTensor("blk.9.attn_q.weight", shape: [8, 2], [0, 2, 1, 3, 4, 6, 5, 7].flatMap { [$0, $0 + 0.5] })
    builder.addTensor("blk.9.attn_q.bias", shape: [8], [0, 2, 1, 3, 4, 6, 5, 7])
    builder.addTensor("blk.9.attn_v.weight", shape: [4, 1], [0, 1, 2, 3])
    let checkpoint = try open(builder)
    let query = try checkpoint.tensor("model.layers.9.self_attn.q_proj.weight")
    #expect(try query.decoded() == (0..<8).flatMap { [Float($0), Float($0) + 0.5] })
    #expect(query.bytes == nil)
    var rows = [Float](repeating: 0, count: 6)
    try query.decode(rows: 1..<4, into: &rows)
    #expect(rows == [1, 1.5, 2, 2.5, 3, 3.5])
    #expect(try checkpoint.tensor("model.layers.9.self_attn.q_proj.bias").decoded() == [0, 1, 2, 3, 4, 5, 6, 7])
    #expect(try checkpoint.tensor("model.layers.9.self_attn.v_proj.weight").decoded() == [0, 1, 2, 3])
    builder.addTensor("blk.8.attn_q.weight", shape: [6, 2], [Float](repeating: 0, count: 12))
    expectError("tensor 'blk.8.attn_q.weight' has 6 rows, which 2 heads cannot share") { _ = try open(builder) }
  }

  @Test func onlyTheRotatedPartOfAHeadComesOutOfPairs() throws {
    var builder = GGUFBuilder.tinyLlama()
    builder.add("llama.attention.key_length", UInt32(6))
    builder.add("llama.rope.dimension_count", UInt32(4))
    // Four of six rows rotate, stored as pairs of (first half, second half) of those four.
    builder.addTensor("blk.9.attn_k.bias", shape: [6], [0, 2, 1, 3, 4, 5])
    #expect(
      try open(builder).tensor("model.layers.9.self_attn.k_proj.bias").decoded() == [0, 1, 2, 3, 4, 5])
  }

  @Test func fusedTensorsComeOutApart() throws {
    var builder = GGUFBuilder.tinyLlama()
    // Two heads and one for keys and values, of 4 rows each: 8 + 4 + 4.
    builder.addTensor("blk.9.attn_qkv.weight", shape: [16, 2], (0..<32).map { Float($0) })
    let checkpoint = try open(builder)
    #expect(!checkpoint.contains("model.layers.9.self_attn.qkv_proj.weight"))
    let values = try checkpoint.tensor("model.layers.9.self_attn.v_proj.weight", shape: [4, 2])
    #expect(try values.decoded() == (24..<32).map { Float($0) } && values.bytes?.count == 32)
    #expect(try checkpoint.tensor("model.layers.9.self_attn.k_proj.weight", shape: [4, 2]).decoded()[0] == 16)
    builder.addTensor("blk.9.attn_k.bias", shape: [4], [0, 0, 0, 0])
    _ = try open(builder)
    builder.addTensor("blk.9.attn_v.weight", shape: [4, 2], [Float](repeating: 0, count: 8))
    expectError("tensor 'model.layers.9.self_attn.v_proj.weight' appears twice, fused with others and by itself") {
      _ = try open(builder)
    }
    var other = GGUFBuilder.tinyLlama()
    other.addTensor("blk.9.attn_qkv.weight", shape: [15, 2], [Float](repeating: 0, count: 30))
    expectError("has the shape [15, 2], but the configuration asks for 16 rows: 8 of q_proj, 4 of k_proj, 4 of v_proj")
    {
      _ = try open(other)
    }
  }

  @Test func phi3OfAGGUF() throws {
    var builder = GGUFBuilder()
    builder.add("general.architecture", "phi3")
    for (key, value) in [
      ("block_count", 1), ("context_length", 256), ("embedding_length", 16), ("feed_forward_length", 4),
      ("attention.head_count", 2), ("attention.head_count_kv", 1), ("rope.dimension_count", 6),
      ("rope.scaling.original_context_length", 64), ("attention.sliding_window", 9),
    ] { builder.add("phi3.\(key)", UInt32(value)) }
    builder.add("phi3.attention.layer_norm_rms_epsilon", Float(1e-5))
    builder.add("phi3.rope.scaling.attn_factor", Float(1.19))
    builder.addTensor("token_embd.weight", shape: [3, 16], [Float](repeating: 0, count: 48))
    builder.addTensor("blk.0.ffn_up.weight", shape: [8, 16], (0..<128).map { Float($0) })
    builder.addTensor("rope_factors_short.weight", shape: [3], [1, 2, 3])
    builder.addTensor("rope_factors_long.weight", shape: [3], [4, 5, 6])
    let checkpoint = try open(builder)
    let found = checkpoint.configuration
    #expect(found.architecture == "Phi3ForCausalLM" && found.rotaryDimension == 6 && found.slidingWindow == 9)
    // The files name no type of scaling; the factors say it.
    #expect(
      found.ropeScaling
        == .longRoPE(
          shortFactors: [1, 2, 3], longFactors: [4, 5, 6], originalContextLength: 64, attentionFactor: 1.19))
    #expect(try checkpoint.tensor("model.layers.0.mlp.gate_proj.weight", shape: [4, 16]).decoded()[0] == 0)
    #expect(try checkpoint.tensor("model.layers.0.mlp.up_proj.weight", shape: [4, 16]).decoded()[0] == 64)
  }

  @Test func twoNamesForOneTensorAreRefused() throws {
    var builder = GGUFBuilder.tinyLlama()
    builder.addTensor("model.norm.weight", shape: [8], [Float](repeating: 0, count: 8))
    expectError("tensor 'model.norm.weight' appears twice") { _ = try open(builder) }
  }

  @Test func rotaryScalingOfAGGUF() throws {
    func scaling(_ change: (inout GGUFBuilder) -> Void) throws -> RoPEScaling {
      var builder = GGUFBuilder.tinyLlama()
      change(&builder)
      return try open(builder).configuration.ropeScaling
    }
    #expect(try scaling { _ in } == .none)
    #expect(
      try scaling {
        $0.add("llama.rope.scaling.type", "linear")
        $0.add("llama.rope.scaling.factor", Float(2))
      } == .linear(factor: 2))
    #expect(try scaling { $0.add("llama.rope.scale_linear", Float(4)) } == .linear(factor: 4))
    #expect(try scaling { $0.addTensor("rope_freqs.weight", shape: [2], [1, 8]) } == .factors([1, 8]))
    #expect(
      try scaling {
        $0.add("llama.rope.scaling.type", "longrope")
        $0.add("llama.rope.scaling.original_context_length", UInt32(32))
        $0.add("llama.rope.scaling.attn_factor", Float(1.19))
        $0.addTensor("rope_factors_short.weight", shape: [2], [1, 2])
        $0.addTensor("rope_factors_long.weight", shape: [2], [3, 4])
      } == .longRoPE(shortFactors: [1, 2], longFactors: [3, 4], originalContextLength: 32, attentionFactor: 1.19))
    expectError("has 3 factors, 2 are needed") {
      _ = try scaling { $0.addTensor("rope_freqs.weight", shape: [3], [1, 8, 8]) }
    }
    #expect(
      try scaling {
        $0.add("llama.rope.scaling.type", "yarn")
        $0.add("llama.rope.scaling.factor", Float(1))
        $0.add("llama.rope.scaling.original_context_length", UInt32(32))
      }
        == .yarn(
          factor: 1, originalContextLength: 32, betaFast: 32, betaSlow: 1, truncates: true, attentionFactor: 1))
    expectError("the rotary scaling is of type 'x'; supported are none, linear, yarn and longrope") {
      _ = try scaling { $0.add("llama.rope.scaling.type", "x") }
    }
    expectError("the tensors rope_factors_short.weight and rope_factors_long.weight are missing") {
      _ = try scaling { $0.add("llama.rope.scaling.type", "longrope") }
    }
  }

  @Test func metadataOfAGGUFIsChecked() throws {
    func refuses(_ message: String, _ location: SourceLocation = #_sourceLocation, _ add: (inout GGUFBuilder) -> Void) {
      var builder = GGUFBuilder.tinyLlama()
      add(&builder)
      expectError(message, location) { _ = try open(builder) }
    }
    refuses("this is one of 3 parts of a model") { $0.add("split.count", UInt32(3)) }
    refuses("this model has 8 experts") { $0.add("llama.expert_count", UInt32(8)) }
    refuses("keys of 4 beside values of 8 elements per head") {
      $0.add("llama.attention.key_length", UInt32(4))
      $0.add("llama.attention.value_length", UInt32(8))
    }
    refuses("the metadata key 'llama.attention.key_length' is 0, a positive integer was expected") {
      $0.add("llama.attention.key_length", UInt32(0))
    }
    refuses("the metadata key 'llama.attention.key_length' is of type float32, an integer was expected") {
      $0.add("llama.attention.key_length", Float(4))
    }
    refuses("a special token has the id 12, but the vocabulary has only 12 tokens") {
      $0.add("tokenizer.ggml.eot_token_id", UInt32(12))
    }
    var other = GGUFBuilder()
    expectError("the metadata key 'general.architecture' is missing") { _ = try open(other) }
    other.add("general.architecture", "gemma3")
    expectError("the architecture 'gemma3' is not supported; supported are llama, phi3, qwen2, qwen3, smollm3") {
      _ = try open(other)
    }
    var short = GGUFBuilder()
    short.add("general.architecture", "llama")
    expectError("the metadata key 'llama.attention.head_count' is missing") { _ = try open(short) }
  }

  @Test func opensAFolder() throws {
    _ = try folder.write("config.json", ModelConfigurationTests.llama.serialized())
    _ = try folder.write("generation_config.json", #"{"eos_token_id": [2, 5]}"#)
    let writer = try ShardedSafetensorsWriter(
      folder: folder.path, tensors: [SafetensorsEntry("model.norm.weight", shape: [576], format: .bfloat16)])
    try writer.append([Float](repeating: 0.5, count: 576), to: "model.norm.weight")
    try writer.finish()
    let checkpoint = try Checkpoint.open(path: folder.path)
    #expect(checkpoint.configuration.eosTokenIDs == [2, 5])
    #expect(checkpoint.tensorNames == ["model.norm.weight"])
    #expect(try checkpoint.tensor("model.norm.weight").decoded() == [Float](repeating: 0.5, count: 576))
    expectError("give the model's folder, not a file in it") {
      _ = try Checkpoint.open(path: folder.path + "/model.safetensors")
    }
    _ = try folder.write("config.json", "{\n \"a\": }")
    expectError("config.json: line 2, column 7: '}' stands where a value was expected") {
      _ = try Checkpoint.open(path: folder.path)
    }
  }

  @Test func otherThingsAreRefused() throws {
    expectError("cannot open: no such file or folder") { _ = try Checkpoint.open(path: "/nonexistent") }
    expectError("there is no config.json here") { _ = try Checkpoint.open(path: folder.path) }
    _ = try folder.write("adapter_config.json", "{}")
    expectError("this folder holds an adapter") { _ = try Checkpoint.open(path: folder.path) }
    let text = try folder.write("notes.txt", "hello")
    expectError("this is no GGUF") { _ = try Checkpoint.open(path: text) }
  }
}

/// The real file that the scripts fetch.
@Suite(.enabled(if: sampleModel != nil, "SWIFTLET_SAMPLE_MODEL names no file"))
struct SampleModelTests {
  @Test func readsTheSampleModel() throws {
    let checkpoint = try Checkpoint.open(path: try #require(sampleModel))
    #expect(
      checkpoint.configuration
        == ModelConfiguration(
          vocabularySize: 49152, hiddenSize: 576, intermediateSize: 1536, layerCount: 30, headCount: 9,
          keyValueHeadCount: 3, rmsNormEpsilon: 1e-5, ropeTheta: 100000, contextLength: 8192, tiesEmbeddings: true,
          bosTokenID: 1, eosTokenIDs: [2], padTokenID: 2))
    #expect(checkpoint.tensorNames.count == 272)
  }

  /// The golden hashes are of the tensors that gguf-py decodes and transformers' order of rows.
  @Test(
    arguments: [
      ("model.embed_tokens.weight", 0xAFF6_82BB_4956_C665),
      ("model.layers.0.self_attn.q_proj.weight", 0x0BCD_C159_B23C_4525),
      ("model.layers.29.self_attn.k_proj.weight", 0x4420_8BDE_4898_D925),
      ("model.layers.15.mlp.down_proj.weight", 0xFE95_A066_3AE9_7125),
      ("model.norm.weight", 0x0F5E_DAC9_3420_3025),
    ] as [(String, UInt64)])
  func decodesTheSampleModel(_ name: String, _ hash: UInt64) throws {
    let checkpoint = try Checkpoint.open(path: try #require(sampleModel))
    #expect(fnv(try checkpoint.tensor(name).decoded()) == hash)
  }

  /// FNV-1a over the 32-bit patterns.
  private func fnv(_ values: [Float]) -> UInt64 {
    values.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1.bitPattern)) &* 0x100_0000_01B3 }
  }
}
