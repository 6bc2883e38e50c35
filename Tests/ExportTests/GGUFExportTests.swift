import Glibc
import JSONValues
import TestSupport
import Testing
import Tokenization

@testable import Export
@testable import ModelFiles

@Suite struct GGUFExportTests {
  let folder: TemporaryFolder
  let home: TemporaryFolder

  init() throws { (folder, home) = (try TemporaryFolder(), try TemporaryFolder()) }

  static let sizes: JSONObject = [
    "vocab_size": 272, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "eos_token_id": 2,
    "bos_token_id": 0,
  ]
  static let phi3: JSONObject = [
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "tie_word_embeddings": false, "sliding_window": .null,
  ]

  /// Writes a model with a tokenizer into `home`.
  private func model(_ changes: JSONObject = [:], seed: UInt64 = 1) throws -> String {
    var config = Self.sizes
    for (key, value) in changes { config[key] = value }
    try TinyModel(changing: config, seed: seed).write(to: home)
    try TinyTokenizer.write(to: home)
    return home.path
  }

  @discardableResult
  private func export(
    _ path: String, _ type: GGUFType, adapters: [AdapterFile] = [], formats: [String: StorageFormat] = [:],
    to name: String = "x.gguf"
  ) throws -> GGUFExport.Result {
    unlink("\(folder.path)/\(name)")
    return try GGUFExport(of: path, adapters: adapters, type: type, formats: formats).write(
      to: "\(folder.path)/\(name)")
  }

  // MARK: Tensors

  /// Every architecture comes back as the same model with the same numbers.
  @Test(
    arguments: [
      [:], phi3, ["attention_bias": true, "mlp_bias": true], ["head_dim": 16, "tie_word_embeddings": false],
      ["architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"],
      ["architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 12],
      ["architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "no_rope_layers": [1, 1, 1, 0]],
      ["architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": .null],
      phi3.merged(["partial_rotary_factor": 0.5]),
      phi3.merged([
        "original_max_position_embeddings": 64,
        "rope_scaling": [
          "type": "longrope", "short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [2.0, 3.0, 4.0, 5.0],
        ],
      ]),
      ["rope_scaling": ["rope_type": "linear", "factor": 4.0]],
      ["rope_scaling": ["rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64]],
      [
        "rope_scaling": [
          "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64,
        ]
      ],
    ] as [JSONObject]) func everyArchitectureComesBack(_ changes: JSONObject) throws
  {
    let source = try Checkpoint.open(path: model(changes, seed: .random(in: 0...UInt64.max)))
    try export(source.path, .f32)
    let back = try Checkpoint.open(path: "\(folder.path)/x.gguf")
    for (name, shape) in source.configuration.tensors {
      #expect(try back.tensor(name, shape: shape).decoded() == source.tensor(name).decoded(), "\(name)")
    }
    var expected = source.configuration
    // llama.cpp knows Mistral's models as Llamas, and Llama 3.1's scaling by its factors.
    if expected.architecture == "MistralForCausalLM" { expected.architecture = "LlamaForCausalLM" }
    if case .llama3 = expected.ropeScaling {
      guard case .factors(let factors) = back.configuration.ropeScaling else {
        Issue.record("the factors are missing")
        return
      }
      #expect(factors.count == expected.rotaryDimension / 2 && factors.first == 1 && factors.last == 8)
      expected.ropeScaling = back.configuration.ropeScaling
    }
    if case .longRoPE(let short, let long, let original, let attention) = expected.ropeScaling,
      case .longRoPE(_, _, _, let found) = back.configuration.ropeScaling
    {
      #expect(abs(found / attention - 1) < 1e-7, "stored in 32 bits")
      expected.ropeScaling = .longRoPE(
        shortFactors: short, longFactors: long, originalContextLength: original, attentionFactor: found)
    }
    expected.padTokenID = 3
    expected.eosTokenIDs = back.configuration.eosTokenIDs
    #expect(back.configuration == expected)
    #expect(back.configuration.eosTokenIDs == [2])
  }

  /// An adapter of random values on queries and gates.
  private func adapter(for model: ModelConfiguration, usesDoRA: Bool) throws -> AdapterFile {
    let path = "\(home.path)/adapter"
    let modules = (0..<model.layerCount).flatMap { layer in
      [TargetModule.query, .gate].map { ($0.path(layer: layer), model.size(of: $0)) }
    }
    let values = (0..<2 * model.intermediateSize).map { _ in Float.random(in: -1...1) }
    try values.withUnsafeBufferPointer { values in
      try AdapterFile.save(
        to: path,
        configuration: .init(
          rank: 2, alpha: 3, usesDoRA: usesDoRA, targetModules: ["q_proj", "gate_proj"], baseModel: "base"),
        tensors: modules.flatMap { path, size in
          [("A.weight", [2, size.inputs]), ("B.weight", [size.outputs, 2]), ("magnitude_vector", [size.outputs])]
            .prefix(usesDoRA ? 3 : 2).map { part, shape in
              (
                name: "base_model.model.\(path).lora_\(part)", shape: shape,
                values: UnsafeBufferPointer(rebasing: values[..<shape.reduce(1, *)])
              )
            }
        })
    }
    return try AdapterFile.load(folder: path, for: model)
  }

  /// llama.cpp rotates neighbours where Hugging Face rotates halves.
  @Test func rowsOfQueriesAreReordered() throws {
    let source = try Checkpoint.open(path: model())
    try export(source.path, .f32)
    let file = try GGUFFile(path: "\(folder.path)/x.gguf")
    let name = "model.layers.1.self_attn.q_proj.weight"
    let (rows, stored) = (try source.tensor(name).decoded(), try #require(file.tensor("blk.1.attn_q.weight")).decoded())
    // Heads of 8 rows: 0, 4, 1, 5, …
    for row in 0..<32 {
      let origin = row / 8 * 8 + (row % 8) / 2 + (row % 2) * 4
      #expect(stored[32 * row..<32 * row + 32] == rows[32 * origin..<32 * origin + 32], "\(row)")
    }
    #expect(file.tensor("blk.1.attn_norm.weight")?.format == .float32)
  }

  @Test(arguments: [false, true]) func anAdapterIsAdded(usesDoRA: Bool) throws {
    let source = try Checkpoint.open(path: model())
    let loaded = try adapter(for: source.configuration, usesDoRA: usesDoRA)
    try export(source.path, .f32, adapters: [loaded])
    let back = try Checkpoint.open(path: "\(folder.path)/x.gguf")
    let merged = try MergedTensors(source, adapters: [loaded])
    var adapted = 0
    for tensor in merged.tensors {
      var values = [Float](repeating: 0, count: tensor.rowCount * tensor.rowLength)
      try values.withUnsafeMutableBufferPointer {
        try tensor.makeReader().decode(rows: 0..<tensor.rowCount, into: try #require($0.baseAddress))
      }
      #expect(try back.tensor(tensor.name).decoded() == values, "\(tensor.name)")
      if tensor.isAdapted {
        adapted += 1
        #expect(try source.tensor(tensor.name).decoded() != values)
      }
    }
    #expect(adapted == 8)
  }

  @Test(arguments: GGUFType.allCases) func everyTypeCanBeReadAndIsClose(_ type: GGUFType) throws {
    let source = try Checkpoint.open(path: model(["hidden_size": 256, "intermediate_size": 512]))
    let result = try export(source.path, type)
    let back = try Checkpoint.open(path: "\(folder.path)/x.gguf")
    let file = try GGUFFile(path: "\(folder.path)/x.gguf")
    #expect(file.metadata["general.file_type"] == .uint32(type.fileType))
    #expect(file.metadata["general.quantization_version"] == .uint32(2))
    #expect(result.tensorCount == file.tensors.count && result.fallbackCount == 0)
    let limit: [GGUFType: Float] = [
      .f32: 0, .f16: 1e-3, .bf16: 5e-3, .q8_0: 8e-3, .q6_k: 0.03, .q5_k_m: 0.05, .q4_k_m: 0.09, .q4_0: 0.1,
    ]
    for (name, _) in source.configuration.tensors {
      let (a, b) = (try source.tensor(name).decoded(), try back.tensor(name).decoded())
      let error = zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      let size = a.reduce(0) { $0 + $1 * $1 }
      #expect((error / size).squareRoot() <= limit[type] ?? 0, "\(name)")
    }
  }

  /// The choices of llama-quant.cpp for a Llama of 32 blocks, and for rows that are no multiples of 256.
  @Test func tensorsGetTheFormatsThatLlamaCPPGivesThem() throws {
    func formats(_ type: GGUFType, _ name: String, width: Int = 4096, tied: Bool = false, layers: Int = 32) -> [Int] {
      (0..<layers).filter {
        type.format(
          of: name.replacing("*", with: "\($0)"), shape: [64, width], layerCount: layers, isTied: tied) == .q6_K
      }
    }
    let sensitive = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    for type in [GGUFType.q4_k_m, .q5_k_m] {
      #expect(formats(type, "blk.*.attn_v.weight") == sensitive)
      #expect(formats(type, "blk.*.ffn_down.weight") == sensitive)
      #expect(formats(type, "blk.*.attn_qkv.weight") == sensitive)
      #expect(formats(type, "blk.*.attn_q.weight").isEmpty && formats(type, "blk.*.ffn_up.weight").isEmpty)
      #expect(formats(type, "output.weight").count == 32)
      #expect(formats(type, "token_embd.weight").isEmpty && formats(type, "token_embd.weight", tied: true).count == 32)
    }
    #expect(formats(.q4_0, "output.weight").count == 32 && formats(.q4_0, "blk.*.ffn_down.weight").isEmpty)
    #expect(formats(.q6_k, "blk.*.attn_q.weight").count == 32)
    #expect(formats(.q8_0, "output.weight").isEmpty)
    #expect(
      formats(.q4_k_m, "blk.*.ffn_down.weight", layers: 30) == [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29])

    func format(_ type: GGUFType, _ name: String, _ shape: [Int], tied: Bool = false) -> StorageFormat {
      type.format(of: name, shape: shape, layerCount: 30, isTied: tied)
    }
    // SmolLM2's rows of 576.
    #expect(format(.q4_k_m, "blk.9.attn_q.weight", [576, 576]) == .q5_0)
    #expect(format(.q4_k_m, "blk.0.attn_v.weight", [192, 576]) == .q8_0)
    #expect(format(.q5_k_m, "blk.9.attn_q.weight", [576, 576]) == .q5_1)
    #expect(format(.q6_k, "blk.9.attn_q.weight", [576, 576]) == .q8_0)
    #expect(format(.q4_k_m, "token_embd.weight", [49152, 576], tied: true) == .q8_0)
    #expect(format(.q4_0, "token_embd.weight", [49152, 576], tied: true) == .q8_0)
    #expect(format(.q4_0, "blk.9.attn_q.weight", [576, 576]) == .q4_0)
    #expect(format(.q8_0, "blk.9.attn_q.weight", [40, 40]) == .float16)
    #expect(format(.q4_k_m, "blk.9.attn_q.weight", [40, 40]) == .float16)
    for type in GGUFType.allCases {
      #expect(format(type, "blk.9.attn_norm.weight", [576]) == .float32)
      #expect(format(type, "blk.9.attn_q.bias", [576]) == .float32)
    }
    #expect(
      GGUFType.q4_k_m.format(
        of: "blk.40.attn_v.weight", shape: [1024, 8192], layerCount: 80, isTied: false, sharesValues: true) == .q5_K)
  }

  @Test func tensorsCanHaveFormatsOfTheirOwn() throws {
    let source = try model(["hidden_size": 256, "intermediate_size": 512])
    try export(source, .q4_k_m, formats: ["blk.1.attn_k.weight": .q8_0, "blk.2.ffn_up.weight": .bfloat16])
    let file = try GGUFFile(path: "\(folder.path)/x.gguf")
    #expect(file.tensor("blk.1.attn_k.weight")?.format == .q8_0 && file.tensor("blk.0.attn_k.weight")?.format == .q4_K)
    #expect(file.tensor("blk.2.ffn_up.weight")?.format == .bfloat16)
    expectError("the model has no tensor 'blk.9.attn_k.weight', for which a format is given") {
      try export(source, .q4_k_m, formats: ["blk.9.attn_k.weight": .q8_0])
    }
    expectError("cannot be stored as Q2_K") { try export(source, .q4_k_m, formats: ["blk.1.attn_k.weight": .q2_K]) }
  }

  // MARK: Metadata

  @Test func theMetadataIsComplete() throws {
    let path = try model(["_name_or_path": "me/My-Model", "rope_theta": 250000])
    _ = try home.write("README.md", "---\nlicense: \"mit\"\ntags: x\n---\n# My model\n")
    try export(path, .q8_0)
    let metadata = try GGUFFile(path: "\(folder.path)/x.gguf").metadata
    for (key, value) in [
      "general.architecture": "llama", "general.type": "model", "general.name": "My-Model", "general.license": "mit",
      "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "dbrx", "tokenizer.chat_template": TinyTokenizer.chatML,
    ] {
      #expect(metadata[key]?.string == value, "\(key)")
    }
    for (key, value) in [
      "general.file_type": 7, "general.quantization_version": 2, "llama.vocab_size": 272, "llama.context_length": 2048,
      "llama.embedding_length": 32, "llama.block_count": 4, "llama.feed_forward_length": 64,
      "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2, "llama.rope.dimension_count": 8,
      "llama.attention.key_length": 8, "llama.attention.value_length": 8, "tokenizer.ggml.bos_token_id": 0,
      "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.padding_token_id": 3, "tokenizer.ggml.unknown_token_id": 0,
    ] {
      #expect(metadata[key]?.integer == value, "\(key)")
    }
    #expect(metadata["llama.rope.freq_base"] == .float32(250000))
    #expect(metadata["llama.attention.layer_norm_rms_epsilon"] == .float32(1e-5))
    #expect(metadata["tokenizer.ggml.add_bos_token"] == .bool(false))
    let tokens = try #require(metadata["tokenizer.ggml.tokens"]?.array?.strings)
    #expect(tokens.count == 272 && tokens[1] == "<|im_start|>" && tokens.last == "[PAD271]", "rows without a token")
    let types = try #require(metadata["tokenizer.ggml.token_type"]?.array?.integers)
    #expect(Array(types[..<5]) == [3, 3, 3, 3, 1] && types.suffix(6) == [5, 5, 5, 5, 5, 5])
    #expect(metadata["tokenizer.ggml.merges"]?.array?.strings?.first == "h e")
  }

  /// Phi-4 as it was published: padding and the end of a turn are the end of a text, and the template opens turns unasked.
  @Test func whatTheDoctorRepairsIsRepaired() throws {
    let path = try model()
    // In the manner of Phi-4's: the user's turn opens the assistant's.
    let template = """
      {% for m in messages %}{% if m['role'] == 'user' %}{{'<|im_start|>user\\n' + m['content'] + \
      '<|im_end|>\\n<|im_start|>assistant\\n'}}{% elif m['role'] == 'assistant' %}{{m['content'] + '<|im_end|>\\n'}}\
      {% endif %}{% endfor %}
      """
    try TinyTokenizer.write(
      config: [
        "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>", "chat_template": .string(template),
      ], to: home)
    let made = try GGUFExport(of: path, type: .f16)
    #expect(made.remarks.contains { $0.hasPrefix("repaired: eos-not-end-of-turn") })
    #expect(made.tokenizer.eosTokenID == 2 && made.tokenizer.padTokenID == 3)
    #expect(made.tokenizer.chatTemplate?.source.contains("add_generation_prompt") == true)
    let modelfile = Modelfile(made, gguf: "x.gguf")
    #expect(modelfile.text.contains("PARAMETER stop \"<|im_end|>\"\n"))
  }

  @Test func namesThatLlamaCPPWouldMisunderstandAreSpaced() throws {
    for (name, expected) in [("phi3", "phi 3"), ("Phi-3.5-x", "Phi 3.5-x"), ("phi-4", "phi-4"), ("a-3", "a-3")] {
      let path = try model(["_name_or_path": .string(name)])
      try export(path, .f32)
      #expect(try GGUFFile(path: "\(folder.path)/x.gguf").metadata["general.name"]?.string == expected)
    }
  }

  // MARK: From a GGUF

  @Test func aGGUFIsQuantizedAgain() throws {
    var builder = GGUFBuilder.tinyLlama()
    builder.add("general.name", "Tiny")
    builder.add("general.file_type", UInt32(0))
    builder.add("tokenizer.ggml.pre", "gpt-2")
    builder.add("my.own", "stays")
    let source = try folder.write("source.gguf", builder.build())
    let (before, result) = (try GGUFFile(path: source), try export(source, .bf16))
    let after = try GGUFFile(path: "\(folder.path)/x.gguf")
    #expect(after.metadata["general.file_type"] == .uint32(32) && after.metadata["my.own"] == .string("stays"))
    #expect(after.metadata["general.name"] == .string("Tiny"))
    #expect(Set(after.tensors.map(\.name)) == Set(before.tensors.map(\.name)))
    #expect(result.formats.first?.name == "BF16")
    let (a, b) = (try Checkpoint(gguf: before), try Checkpoint(gguf: after))
    let name = "model.layers.0.self_attn.q_proj.weight"
    #expect(zip(try a.tensor(name).decoded(), try b.tensor(name).decoded()).allSatisfy { abs($0 - $1) < 0.01 })
    // What has its format already is copied.
    try export("\(folder.path)/x.gguf", .bf16, to: "y.gguf")
    let again = try GGUFFile(path: "\(folder.path)/y.gguf")
    for tensor in after.tensors {
      #expect(again.tensor(tensor.name)?.bytes?.elementsEqual(try #require(tensor.bytes)) == true, "\(tensor.name)")
    }
  }

  // MARK: Bad input

  @Test func whatLlamaCPPCannotExpressIsRefusedWithTheReason() throws {
    for (change, reason) in [
      (
        ["architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 8, "attention_bias": true],
        "llama.cpp's architecture 'qwen3' cannot express this model: its projections have biases"
      ),
      (
        ["architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "no_rope_layers": [1, 0, 1, 0]],
        "its layers without rotation are not every fourth (no_rope_layers)"
      ),
      (
        [
          "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
          "rope_scaling": [
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
          ],
        ], "llama.cpp's architecture 'qwen2' has no factors of rotary frequencies"
      ),
    ] as [(JSONObject, String)] {
      let path = try model(change)
      expectError(reason) { try export(path, .f16) }
    }
    let windowed = try model([
      "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 64,
    ])
    #expect(try GGUFExport(of: windowed, type: .f16).remarks.contains { $0.contains("sees the last 64 tokens only") })
    #expect(AtomicFolder.names(in: folder.path).isEmpty)
  }

  @Test func aTokenizerThatNoGGUFCanHaveIsRefused() throws {
    let path = try model()
    for (json, reason) in [
      (TinyTokenizer.byteLevel([TinyTokenizer.split("[a-z]+"), TinyTokenizer.smollm[1]]), "a pattern of its own"),
      (TinyTokenizer.byteLevel(normalizer: ["type": "Lowercase"]), "byte-level BPE after a normalizer"),
      (
        ["model": ["type": "Unigram", "vocab": [["a", -1.0], ["b", -2.0]], "unk_id": 0, "byte_fallback": true]],
        "a Unigram model"
      ),
      (
        TinyTokenizer.sentencePieces([("h", "e"), ("l", "o"), ("he", "l"), ("l", "l"), ("e", "l"), ("h", "el")]),
        "merges that no scores of the tokens can express"
      ),
    ] as [(JSONValue, String)] {
      try TinyTokenizer.write(json, config: ["bos_token": "<s>"], to: home)
      expectError("\(reason); llama.cpp has no such tokenizer") { try export(path, .f16) }
    }
    try TinyTokenizer.write(to: home)
    let small = try model(["vocab_size": 200])
    expectError("the highest token has the id 265, but the model's embedding has only 200 rows") {
      try export(small, .f16)
    }
    #expect(AtomicFolder.names(in: folder.path).isEmpty)
  }

  @Test func whatIsBrokenLeavesNothing() throws {
    let path = try model()
    try TinyModel(changing: Self.sizes).write(to: home) { name, values in
      if name == "model.layers.3.mlp.up_proj.weight" { values[7] = .nan }
    }
    expectError("tensor 'model.layers.3.mlp.up_proj.weight' holds values that are no finite numbers") {
      try export(path, .q4_0)
    }
    try TinyModel(changing: Self.sizes).write(to: home) { name, values in
      if name == "model.layers.3.mlp.up_proj.weight" { values[7] = 70000 }
    }
    for type in [GGUFType.f16, .q8_0] {
      expectError("tensor 'blk.3.ffn_up.weight' has a value that \(type.rawValue.uppercased()) cannot hold") {
        try export(path, type)
      }
    }
    #expect(AtomicFolder.names(in: folder.path).isEmpty)
    struct Stop: Error {}
    #expect(throws: Stop.self) {
      try GGUFExport(of: path, type: .bf16).write(to: "\(folder.path)/x.gguf") { _ in throw Stop() }
    }
    #expect(AtomicFolder.names(in: folder.path).isEmpty)
  }

  /// A disk that fills while the file is written, by a limit on the size of files.
  @Test func aFullDiskLeavesNothing() async {
    await #expect(processExitsWith: .success) {
      let (home, folder) = (try TemporaryFolder(), try TemporaryFolder())
      try TinyModel(changing: GGUFExportTests.sizes).write(to: home)
      try TinyTokenizer.write(to: home)
      let export = try GGUFExport(of: home.path, type: .f32)
      signal(SIGXFSZ, SIG_IGN)
      var limit = rlimit(rlim_cur: 50_000, rlim_max: 50_000)
      guard setrlimit(__rlimit_resource_t(1), &limit) == 0 else { exit(3) }
      do {
        try export.write(to: "\(folder.path)/x.gguf")
        exit(4)
      } catch {
        guard "\(error)".contains("x.gguf: cannot write"), AtomicFolder.names(in: folder.path).isEmpty else { exit(5) }
      }
    }
  }
}
