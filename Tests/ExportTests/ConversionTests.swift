import CPUDevice
import JSONValues
import ModelFiles
import Models
import TestSupport
import Testing

@testable import Export

/// Models into the Llama layout, back, and out of GGUF files.
@Suite struct ConversionTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  static let phi3: JSONObject = [
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "tie_word_embeddings": false, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 3,
  ]

  /// A folder with a tiny model.
  private func model(_ name: String, _ changes: JSONObject, _ more: JSONObject = [:]) throws -> String {
    var config = changes
    for (key, value) in more { config[key] = value }
    try TinyModel(changing: config).write(to: folder, in: name)
    return "\(folder.path)/\(name)"
  }

  @discardableResult
  private func convert(
    _ path: String, _ layout: Conversion.Layout, _ output: String, type: Conversion.ElementType? = nil
  ) throws -> Conversion.Result {
    try Conversion(of: path, to: layout, weights: type.map { .type($0) } ?? .asStored).write(
      to: "\(folder.path)/\(output)")
  }

  private func logits(_ path: String) throws -> [Float] {
    let checkpoint = try Checkpoint.open(path: path)
    return try LanguageModel(checkpoint, on: CPUDevice(compute: .float32)).logits([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8])
  }

  private func config(_ name: String) throws -> JSONValue { try readJSON("\(folder.path)/\(name)/config.json") }

  // MARK: Phi-3 and back

  @Test(
    arguments: [
      [:],
      // Phi-4's ratios.
      ["hidden_size": 32, "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 112],
    ] as [JSONObject])
  func phi3BecomesALlamaAndReturns(_ sizes: JSONObject) throws {
    let source = try model("phi", Self.phi3, sizes)
    let result = try convert(source, .llama, "llama")
    #expect(result.architecture == "LlamaForCausalLM" && result.fileNames == ["model.safetensors"])
    let (before, after) = (try Checkpoint.open(path: source), try Checkpoint.open(path: "\(folder.path)/llama"))
    #expect(after.configuration.architecture == "LlamaForCausalLM")
    #expect(after.tensorNames.sorted() == before.tensorNames.sorted(), "both are seen in the Llama layout")
    for name in after.tensorNames {
      let (a, b) = (try before.tensor(name), try after.tensor(name))
      #expect(
        a.shape == b.shape && a.format == b.format
          && a.bytes?.elementsEqual(b.bytes ?? .init(start: nil, count: 0)) == true)
    }
    #expect(try logits("\(folder.path)/llama") == logits(source), "the same arithmetic on the same numbers")
    try convert("\(folder.path)/llama", .phi3, "back")
    let (original, back) = (
      try SafetensorsCheckpoint(folder: source), try SafetensorsCheckpoint(folder: "\(folder.path)/back")
    )
    #expect(original.tensorNames == back.tensorNames && back.tensorNames.contains { $0.contains("qkv_proj") })
    for name in original.tensorNames {
      let (a, b) = (try #require(original.tensor(name)), try #require(back.tensor(name)))
      #expect(a.shape == b.shape && a.bytes?.elementsEqual(b.bytes ?? .init(start: nil, count: 0)) == true)
    }
    #expect(
      try ModelConfiguration(json: config("back"), path: "")
        == ModelConfiguration(json: readJSON("\(source)/config.json"), path: ""))
  }

  @Test func theConfigurationSaysAllThatALlamaNeeds() throws {
    // Phi-4's own, with other sizes.
    let source = try model(
      "phi", Self.phi3,
      [
        "_name_or_path": "microsoft/phi-4", "attention_bias": false, "attention_dropout": 0.0, "auto_map": ["a": "b.C"],
        "embd_pdrop": 0.0, "resid_pdrop": 0.0, "rope_scaling": .null, "rope_theta": 250000, "sliding_window": .null,
        "original_max_position_embeddings": 2048, "torch_dtype": "bfloat16", "use_cache": true, "pad_token_id": .null,
      ])
    try convert(source, .llama, "llama")
    let found = try #require(try config("llama").object)
    #expect(found["architectures"] == ["LlamaForCausalLM"] && found["model_type"] == "llama")
    for key in [
      "auto_map", "embd_pdrop", "resid_pdrop", "sliding_window", "original_max_position_embeddings",
      "partial_rotary_factor",
    ] {
      #expect(found[key] == nil, "\(key)")
    }
    #expect(found["head_dim"] == 4 && found["attention_bias"] == false && found["mlp_bias"] == false)
    #expect(found["rope_theta"]?.double == 250000 && found["rope_scaling"] == .null)
    #expect(found["eos_token_id"] == 2 && found["pad_token_id"] == .null && found["torch_dtype"] == "bfloat16")
    #expect(found["_name_or_path"] == "microsoft/phi-4" && found["use_cache"] == true, "the rest stays")
    #expect(Array(found.keys.prefix(2)) == ["architectures", "model_type"], "and so does the order")
  }

  @Test func rotarySettingsOfTransformers5Stay() throws {
    let source = try model(
      "phi", Self.phi3,
      [
        "rope_parameters": ["rope_theta": 5000.0, "rope_type": "default", "partial_rotary_factor": 1.0],
        "dtype": "float32",
      ])
    try convert(source, .llama, "llama", type: .bf16)
    let found = try config("llama")
    #expect(found["rope_parameters"] == ["rope_type": "default", "rope_theta": 5000.0])
    #expect(found["dtype"] == "bfloat16" && found["torch_dtype"] == nil)
    #expect(try Checkpoint.open(path: "\(folder.path)/llama").configuration.ropeTheta == 5000)
  }

  @Test func whatALayoutCannotExpressIsRefusedWithTheReason() throws {
    let factors: JSONValue = [1.0, 2.0]
    let cases: [(JSONObject, String)] = [
      (
        ["hidden_size": 32, "partial_rotary_factor": 0.75],
        "heads rotate by 6 of their 8 elements only (partial_rotary_factor)"
      ),
      (["sliding_window": 9], "attention sees the last 9 tokens only (sliding_window)"),
      (
        ["rope_scaling": ["type": "longrope", "short_factor": factors, "long_factor": factors]],
        "rotary positions are scaled by longrope"
      ),
    ]
    for (index, (change, reason)) in cases.enumerated() {
      let source = try model("phi\(index)", Self.phi3, change)
      expectError("LlamaForCausalLM cannot express this model: its \(reason); --to phi3 can") {
        try convert(source, .llama, "llama")
      }
      // As a Phi-3 it goes.
      #expect(try convert(source, .phi3, "same\(index)").architecture == "Phi3ForCausalLM")
      #expect(try logits("\(folder.path)/same\(index)") == logits(source))
    }
    let biased = try model("biased", ["attention_bias": true])
    expectError("Phi3ForCausalLM cannot express this model: its projections have biases") {
      try convert(biased, .phi3, "phi")
    }
    let normed = try model(
      "normed", ["architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 4])
    expectError("its query and key heads have norms of their own") { try convert(normed, .phi3, "phi") }
    #expect(try convert(normed, .llama, "qwen").architecture == "Qwen3ForCausalLM", "it has the Llama layout already")
    #expect(try logits("\(folder.path)/qwen") == logits(normed))
    #expect(!AtomicFolder.names(in: folder.path).contains { $0 == "llama" || $0 == "phi" || $0.hasPrefix(".") })
  }

  @Test func otherFilesComeAlong() throws {
    let source = try model("phi", Self.phi3)
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja", "LICENSE"]
    {
      _ = try folder.write("phi/\(name)", "{\"a\": \"\(name)\"}")
    }
    for name in ["modeling_phi3.py", "optimizer.pt", "README.md"] { _ = try folder.write("phi/\(name)", "x") }
    try convert(source, .llama, "llama")
    #expect(
      AtomicFolder.names(in: "\(folder.path)/llama") == [
        "LICENSE", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
      ])
    #expect(TemporaryFolder.text(of: "\(folder.path)/llama/LICENSE") == "{\"a\": \"LICENSE\"}")
  }

  /// Models of every architecture whose logits transformers computed (`Tests/Golden/tiny_models.py`), in each layout that
  /// can express them.
  @Test func everyArchitectureIsConvertedWithoutLoss() throws {
    let text = try #require(TemporaryFolder.text(of: goldenPath("tiny_models.json")))
    var fused = 0
    for (index, entry) in try #require(try JSONValue.parse(text).array).enumerated() {
      let config = try #require(entry["config"]?.object)
      let home = try TemporaryFolder()
      try TinyModel(config: config, seed: UInt64(try #require(entry["seed"]?.integer))).write(to: home)
      let tokens = try #require(entry["tokens"]?.array).compactMap(\.integer).map { Int32($0) }
      func logits(_ path: String) throws -> [Float] {
        try LanguageModel(Checkpoint.open(path: path), on: CPUDevice(compute: .float32)).logits(tokens)
      }
      let before = try logits(home.path)
      let vocabulary = try #require(config["vocab_size"]?.integer)
      let positions = try #require(entry["positions"]?.array).compactMap(\.integer)
      for (position, row) in zip(positions, try #require(entry["logits"]?.array)) {
        for (found, wanted) in zip(before[(position * vocabulary)...], row.array ?? []) {
          #expect(abs(Double(found) - (wanted.double ?? .nan)) < 1e-3)
        }
      }
      for layout in Conversion.Layout.allCases {
        let output = "\(index)-\(layout)"
        do { try convert(home.path, layout, output) } catch {
          #expect("\(error)".contains("cannot express this model: its "), "\(error)")
          continue
        }
        fused += layout == .phi3 ? 1 : 0
        let after = "\(folder.path)/\(output)"
        #expect(try logits(after) == before, "\(entry["name"]?.string ?? ""), \(layout)")
        #expect(
          try SafetensorsCheckpoint(folder: after).tensorNames.contains { $0.contains("qkv_proj") } == (layout == .phi3)
        )
      }
    }
    #expect(fused >= 10)
  }

  // MARK: GGUF

  @Test func aGGUFBecomesAFolder() throws {
    let path = try folder.write("tiny.gguf", GGUFBuilder.tinyLlama().build())
    let result = try convert(path, .llama, "llama", type: .f32)
    #expect(result.architecture == "LlamaForCausalLM")
    let checkpoint = try Checkpoint.open(path: "\(folder.path)/llama")
    #expect(checkpoint.configuration == (try Checkpoint.open(path: path)).configuration)
    #expect(try logits("\(folder.path)/llama") == logits(path))
    #expect(try config("llama")["torch_dtype"] == "float32")
    let half = try convert(path, .phi3, "phi", type: .f16)
    #expect(half.architecture == "Phi3ForCausalLM")
    #expect(try Checkpoint.open(path: "\(folder.path)/phi").tensor("model.norm.weight").format == .float16)
    #expect(AtomicFolder.names(in: "\(folder.path)/phi").contains("tokenizer.json"))
  }

  @Test func tablesOfAGGUFBecomeSettings() throws {
    func scaling(_ change: (inout GGUFBuilder) -> Void) throws -> JSONValue? {
      var builder = GGUFBuilder.tinyLlama()
      change(&builder)
      let path = try folder.write("x.gguf", builder.build())
      AtomicFolder.names(in: folder.path).filter { $0 == "out" }.forEach {
        TemporaryFolder.removeAll("\(folder.path)/\($0)")
      }
      try convert(path, .llama, "out")
      #expect(
        try Checkpoint.open(path: "\(folder.path)/out").configuration.ropeScaling != .none, "it must read back")
      return try config("out")["rope_scaling"]
    }
    #expect(try scaling { $0.add("llama.rope.scale_linear", Float(4)) } == ["rope_type": "linear", "factor": 4.0])
    // Of Llama 3.1's settings a GGUF keeps the factors: wavelengths of 6 and 628 are short ones.
    #expect(
      try scaling { $0.addTensor("rope_freqs.weight", shape: [2], [1, 1]) }?["rope_type"] == "llama3")
    #expect(try scaling { $0.addTensor("rope_freqs.weight", shape: [2], [1, 3]) }?["long_factor"] == [1.0, 3.0])
  }

  // MARK: Bad input

  @Test func whatIsBrokenLeavesNothing() throws {
    func refuses(
      _ message: String, _ spoil: (TemporaryFolder) throws -> Void, _ location: SourceLocation = #_sourceLocation
    ) throws {
      let home = try TemporaryFolder()
      try TinyModel(changing: Self.phi3).write(to: home)
      try spoil(home)
      expectError(message, location) { _ = try Conversion(of: home.path, to: .llama).write(to: "\(folder.path)/out") }
      #expect(AtomicFolder.names(in: folder.path).isEmpty, sourceLocation: location)
    }
    func spoil(_ name: String, _ change: @escaping (inout [Float]) -> Void) -> (TemporaryFolder) throws -> Void {
      { try TinyModel(changing: Self.phi3).write(to: $0) { if $0 == name { change(&$1) } } }
    }
    try refuses(
      "tensor 'model.layers.1.mlp.up_proj.weight' holds values that are no finite numbers",
      spoil("model.layers.1.mlp.gate_up_proj.weight") { $0[$0.count - 1] = .nan })
    try refuses(
      "tensor 'model.embed_tokens.weight' holds values that are no finite numbers",
      spoil("model.embed_tokens.weight") { $0[5] = .infinity })
    try refuses(
      "model.safetensors: tensor 'model.layers.0.self_attn.qkv_proj.weight' has the shape [32, 16], but the configuration "
        + "asks for 48 rows: 16 of q_proj, 16 of k_proj, 16 of v_proj"
    ) { home in
      var config = TinyModel(changing: Self.phi3).config
      config["num_key_value_heads"] = 4
      _ = try home.write("config.json", JSONValue.object(config).serialized())
    }
    try refuses("has the shape [24, 16], [25, 16] was expected") { home in
      var config = TinyModel(changing: Self.phi3).config
      config["vocab_size"] = 25
      _ = try home.write("config.json", JSONValue.object(config).serialized())
    }
    try refuses("the file 'model-2.safetensors' is missing; fetch the model again") { home in
      _ = try home.write(
        "model.safetensors.index.json", #"{"weight_map": {"model.norm.weight": "model-2.safetensors"}}"#)
    }
  }

  @Test func aValueThatATypeCannotHoldIsNamed() throws {
    let home = try TemporaryFolder()
    try TinyModel().write(to: home) { if $0 == "model.norm.weight" { $1[0] = 70000 } }
    expectError("tensor 'model.norm.weight' has a value that F16 cannot hold; choose another type") {
      try convert(home.path, .llama, "out", type: .f16)
    }
    try convert(home.path, .llama, "out", type: .bf16)
  }

  @Test func anInterruptedConversionLeavesNothing() throws {
    struct Stop: Error {}
    let source = try model("phi", Self.phi3)
    let conversion = try Conversion(of: source, to: .llama)
    var pieces = 0
    #expect(throws: Stop.self) {
      try conversion.write(to: "\(folder.path)/out") { _ in
        pieces += 1
        if pieces == 3 { throw Stop() }
      }
    }
    #expect(AtomicFolder.names(in: folder.path) == ["phi"])
    // What a killed process left does not stand in the way, a folder with something in it does.
    try folder.makeFolder(".out.incomplete")
    _ = try folder.write(".out.incomplete/model.safetensors", "x")
    try conversion.write(to: "\(folder.path)/out")
    #expect(AtomicFolder.names(in: folder.path) == ["out", "phi"])
    #expect(!AtomicFolder.names(in: "\(folder.path)/out").contains { $0.hasPrefix(".") })
    expectError("the folder is not empty; choose another --output") { try conversion.write(to: "\(folder.path)/out") }
    expectError("this exists already and is no folder") { try conversion.write(to: "\(folder.path)/phi/config.json") }
  }
}
