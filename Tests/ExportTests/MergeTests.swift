import CPUDevice
import Glibc
import JSONValues
import ModelFiles
import Models
import TestSupport
import Testing

@testable import Export

/// Models written with their adapters added.
@Suite struct MergeTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  static let phi4: JSONObject = [
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "tie_word_embeddings": false, "hidden_size": 40,
    "num_attention_heads": 20, "num_key_value_heads": 5, "intermediate_size": 140,
  ]
  static let families: [JSONObject] = [
    [:], phi4,
    ["architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": false],
    ["architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 8],
  ]

  private func model(_ name: String, _ tiny: TinyModel, change: (String, inout [Float]) -> Void = { _, _ in }) throws
    -> String
  {
    try tiny.write(to: folder, in: name, change: change)
    return "\(folder.path)/\(name)"
  }

  private func logits(_ path: String, _ adapters: [String] = []) throws -> [Float] {
    let model = try LanguageModel(Checkpoint.open(path: path), on: CPUDevice(compute: .float32))
    if !adapters.isEmpty { try model.loadAdapters(from: adapters) }
    return try model.logits([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8])
  }

  /// The distance of two lists of logits relative to their size.
  private func distance(_ a: [Float], _ b: [Float]) -> Double {
    let (difference, size) = zip(a, b).reduce((0.0, 0.0)) { sum, pair in
      let d = Double(pair.0) - Double(pair.1)
      return (sum.0 + d * d, sum.1 + Double(pair.1) * Double(pair.1))
    }
    return (difference / size).squareRoot()
  }

  @Test(arguments: families) func aMergedModelIsTheModelWithItsAdapters(_ family: JSONObject) throws {
    let tiny = TinyModel(changing: family)
    let path = try model("base", tiny)
    var one = TinyAdapter(tiny.linearLayers, rank: 3, alpha: 4, seed: 5, bound: 0.2)
    one.config["use_rslora"] = true
    var two = TinyAdapter([tiny.linearLayers[1]], rank: 2, alpha: 1, seed: 6, bound: 0.5)
    two.config["alpha_pattern"] = ["proj": 100, .init("layers.0.self_attn.o_proj"): 3]
    try one.write(to: folder, "one")
    try two.write(to: folder, "two")
    let adapters = ["\(folder.path)/one", "\(folder.path)/two"]
    let (plain, expected) = (try logits(path), try logits(path, adapters))
    #expect(distance(plain, expected) > 0.05, "the adapters change something")
    for (type, bound) in [(Conversion.ElementType.f32, 2e-6), (.f16, 2e-3), (.bf16, 2e-2)] {
      let output = "\(folder.path)/\(type)"
      let result = try Conversion(of: path, weights: .type(type), adding: adapters).write(to: output)
      #expect(result.architecture == tiny.config["architectures"]?.array?.first?.string)
      #expect(try distance(logits(output), expected) < bound)
      // The layout is the model's own.
      #expect(
        try SafetensorsCheckpoint(folder: output).tensorNames == SafetensorsCheckpoint(folder: path).tensorNames)
    }
    // Each alone, and in the other layout.
    for adapter in adapters {
      let output = adapter + "-merged"
      try Conversion(of: path, to: .llama, weights: .type(.f32), adding: [adapter]).write(to: output)
      #expect(try distance(logits(output), logits(path, [adapter])) < 2e-6)
      #expect(try !SafetensorsCheckpoint(folder: output).tensorNames.contains { $0.contains("qkv_proj") })
    }
  }

  /// Of matrices as the family stores them, and of single projections, whose magnitudes a fused matrix has beside others.
  @Test(arguments: families) func magnitudesAreMerged(_ family: JSONObject) throws {
    let tiny = TinyModel(changing: family)
    let path = try model("base", tiny)
    var whole = TinyAdapter(tiny.linearLayers, rank: 3, alpha: 4, seed: 5, bound: 0.2)
    whole.addMagnitudes(0.5...2)
    try whole.write(to: folder, "whole")
    let configuration = try Checkpoint.open(path: path).configuration
    let some = [(0, TargetModule.key), (1, .key), (1, .up), (2, .down)].map { layer, module in
      let size = configuration.size(of: module)
      return (path: module.path(layer: layer), outputs: size.outputs, inputs: size.inputs)
    }
    var apart = TinyAdapter(some, rank: 2, alpha: 1, seed: 6, bound: 0.5)
    apart.addMagnitudes(0.5...2, seed: 8)
    try apart.write(to: folder, "apart")
    for name in ["whole", "apart"] {
      let adapter = "\(folder.path)/\(name)"
      let (plain, expected) = (try logits(path), try logits(path, [adapter]))
      #expect(distance(plain, expected) > 0.05, "the adapter changes something")
      let layouts: [Conversion.Layout?] = tiny.config["model_type"] == "phi3" ? [nil, .llama] : [nil]
      for layout in layouts {
        for (type, bound) in [(Conversion.ElementType.f32, 4e-6), (.f16, 1e-2), (.bf16, 8e-2)] {
          let output = "\(adapter)-\(type)-\(layout?.rawValue ?? "same")"
          try Conversion(of: path, to: layout, weights: .type(type), adding: [adapter]).write(to: output)
          #expect(try distance(logits(output), expected) < bound, "\(name) \(type)")
        }
        let output = "\(adapter)-\(layout?.rawValue ?? "phi3")-written"
        let target: Conversion.Layout = layout ?? (tiny.config["model_type"] == "phi3" ? .phi3 : .llama)
        let written = try AdapterExport.export(
          [adapter], to: output, for: configuration, in: target, weights: Checkpoint.open(path: path))
        #expect(written.adapter.configuration.usesDoRA)
        #expect(try distance(logits(path, [output]), expected) < 4e-6, "\(name) as an adapter")
      }
    }
    // A sum with others is no adapter.
    expectError("this is a DoRA adapter, whose sum with others is no adapter") {
      _ = try logits(path, ["\(folder.path)/whole", "\(folder.path)/apart"])
    }
    if tiny.config["model_type"] == "phi3" {
      expectError("has no magnitudes for layer") {
        _ = try AdapterExport.export(
          ["\(folder.path)/apart"], to: "\(folder.path)/never", for: configuration, in: .phi3)
      }
      #expect(access("\(folder.path)/never", F_OK) != 0)
    }
  }

  @Test func sixteenBitsUnlessAskedOtherwise() throws {
    let tiny = TinyModel()
    let path = try model("base", tiny)
    try TinyAdapter(tiny.linearLayers, rank: 1, alpha: 1, bound: 0.1).write(to: folder, "a")
    func types(_ model: String, _ weights: Conversion.Weights, _ output: String) throws -> Set<StorageFormat> {
      try Conversion(of: model, weights: weights, adding: ["\(folder.path)/a"]).write(to: "\(folder.path)/\(output)")
      let weights = try SafetensorsCheckpoint(folder: "\(folder.path)/\(output)")
      return Set(weights.tensorNames.compactMap { weights.tensor($0)?.format })
    }
    #expect(try types(path, .sixteenBits, "half") == [.bfloat16])
    #expect(try readJSON("\(folder.path)/half/config.json")["torch_dtype"] == "bfloat16")
    #expect(try types(path, .asStored, "same") == [.float32])
    try Conversion(of: path, weights: .type(.f16)).write(to: "\(folder.path)/f16")
    #expect(try types("\(folder.path)/f16", .sixteenBits, "f16-merged") == [.float16])
    let gguf = try folder.write("tiny.gguf", GGUFBuilder.tinyLlama().build())
    let model = try Checkpoint.open(path: gguf).configuration
    let places = TargetModule.allCases.map { module in
      (path: module.path(layer: 0), outputs: model.size(of: module).outputs, inputs: model.size(of: module).inputs)
    }
    try TinyAdapter(places, rank: 2, alpha: 2, bound: 0.3).write(to: folder, "b")
    try Conversion(of: gguf, weights: .type(.f32), adding: ["\(folder.path)/b"]).write(to: "\(folder.path)/of-gguf")
    #expect(
      try distance(logits("\(folder.path)/of-gguf"), logits(gguf, ["\(folder.path)/b"])) < 2e-6,
      "the rows of a GGUF's queries and keys are put in order before an adapter is added")
  }

  @Test func whatWouldBeWrongIsRefusedAndLeavesNothing() throws {
    let tiny = TinyModel()
    let path = try model("base", tiny)
    let nan = try model("nan", tiny) { if $0 == "model.layers.1.mlp.up_proj.weight" { $1[3] = .nan } }
    let other = try model("other", TinyModel(changing: ["hidden_size": 24, "head_dim": 4]))
    let deeper = try model("deeper", TinyModel(changing: ["num_hidden_layers": 4]))
    var adapter = TinyAdapter(tiny.linearLayers, rank: 2, alpha: 2)
    adapter.config["target_modules"] = ["q_proj", "down_proj"]
    try adapter.write(to: folder, "a")
    adapter.pairs[4].b[0] = .infinity
    try adapter.write(to: folder, "infinite")
    adapter.pairs[4].b[0] = 1e6
    adapter.pairs[4].a[0] = 1
    try adapter.write(to: folder, "large")
    func merge(_ model: String, _ adapter: String, _ weights: Conversion.Weights = .sixteenBits) throws {
      try Conversion(of: model, weights: weights, adding: ["\(folder.path)/\(adapter)"])
        .write(to: "\(folder.path)/out")
    }
    expectError("tensor 'model.layers.1.mlp.up_proj.weight' holds values that are no finite numbers") {
      try merge(nan, "a")
    }
    expectError("holds values that are no finite numbers") { try merge(path, "infinite") }
    expectError("has a value that F16 cannot hold; choose another type") { try merge(path, "large", .type(.f16)) }
    // An adapter for another model, with what does not match.
    expectError(
      "tensor 'base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight' has the shape [2, 16]; the model asks "
        + "for"
    ) {
      adapter.pairs.removeAll { !$0.path.hasSuffix("o_proj") }
      try adapter.write(to: folder, "o")
      try merge(model("wide", TinyModel(changing: ["head_dim": 6])), "o")
    }
    expectError("; the model asks for") { try merge(other, "a") }
    expectError("`target_modules` lists q_proj, but layer 3 has no tensors for it") { try merge(deeper, "a") }
    expectError("neither an adapter (adapter_config.json) nor a run with checkpoints") { try merge(path, "base") }
    #expect(access("\(folder.path)/out", F_OK) != 0)
    #expect(!AtomicFolder.names(in: folder.path).contains { $0.hasPrefix(".") })
    try merge(path, "large")
  }
}
