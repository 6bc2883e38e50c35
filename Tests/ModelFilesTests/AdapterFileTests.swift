import Glibc
import JSONValues
import TestSupport
import Testing

@testable import ModelFiles

@Suite struct AdapterFileTests {
  static let golden = golden("peft_adapter")
  static let model = ModelConfiguration(
    vocabularySize: 32, hiddenSize: 16, intermediateSize: 24, layerCount: 2, headCount: 4, keyValueHeadCount: 2)
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private static func golden(_ name: String, _ file: String = #filePath) -> String {
    file.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Golden/\(name)"
  }

  /// Writes an adapter with values from 0 up and gives back its folder.
  private func write(_ shapes: [(String, [Int])], _ configuration: AdapterConfiguration) throws -> String {
    let values = (0..<4096).map { Float($0) }
    let path = "\(folder.path)/adapter"
    try values.withUnsafeBufferPointer { values in
      let tensors = shapes.map { name, shape in
        (name: name, shape: shape, values: UnsafeBufferPointer(rebasing: values[..<shape.reduce(1, *)]))
      }
      try AdapterFile.save(to: path, configuration: configuration, tensors: tensors)
    }
    return path
  }

  private func failure(_ shapes: [(String, [Int])], _ configuration: AdapterConfiguration) -> String {
    do {
      let adapter = try AdapterFile.load(folder: write(shapes, configuration), for: Self.model)
      return "\(adapter.pairs.count) pairs"
    } catch {
      return "\(error)".replacing("\(folder.path)/", with: "")
    }
  }

  @Test func adaptersOfPEFTLoad() throws {
    let adapter = try AdapterFile.load(folder: Self.golden + "/", for: Self.model)
    #expect(adapter.configuration.rank == 3 && adapter.configuration.alpha == 6)
    #expect(adapter.configuration.usesRSLoRA && abs(adapter.configuration.scale - 6 / 3.0.squareRoot()) < 1e-12)
    #expect(adapter.pairs.count == 14)
    #expect(adapter.pairs.map(\.layer) == Array(repeating: 0, count: 7) + Array(repeating: 1, count: 7))
    #expect(adapter.pairs[..<7].map(\.projection) == adapter.configuration.targetModules)
    for pair in adapter.pairs {
      let shape = try #require(Self.model.projectionShape(pair.projection))
      #expect(pair.a.shape == [3, shape.input] && pair.b.shape == [shape.output, 3])
      #expect(try pair.b.decoded().contains { $0 != 0 })
    }
  }

  @Test func configurationIsWrittenAsPEFTWritesIt() throws {
    let configuration = try AdapterConfiguration(folder: Self.golden)
    let text = TemporaryFolder.text(of: "\(Self.golden)/adapter_config.json")
    #expect(configuration.json.serialized(pretty: true) == text)
  }

  /// With `SWIFTLET_ADAPTER_OUT` set, Tests/Golden/peft_adapter.py loads what is written here into PEFT.
  @Test func savedAdaptersReadBack() throws {
    let adapter = try AdapterFile.load(folder: Self.golden)
    var buffers: [(name: String, shape: [Int], values: [Float])] = []
    for pair in adapter.pairs {
      for (isB, tensor) in [(false, pair.a), (true, pair.b)] {
        let name = try #require(AdapterFile.tensorName(layer: pair.layer, projection: pair.projection, isB: isB))
        #expect(name == tensor.name)
        buffers.append((name, tensor.shape, try tensor.decoded()))
      }
    }
    let path = getenv("SWIFTLET_ADAPTER_OUT").map { String(cString: $0) } ?? "\(folder.path)/adapter"
    try save(buffers, [], to: path, adapter.configuration)
    for name in [AdapterFile.fileName, AdapterConfiguration.fileName] {
      #expect(TemporaryFolder.bytes(of: "\(path)/\(name)") == TemporaryFolder.bytes(of: "\(Self.golden)/\(name)"))
    }
  }

  /// Nests the closures that give the buffers' addresses.
  private func save(
    _ buffers: [(name: String, shape: [Int], values: [Float])],
    _ tensors: [(name: String, shape: [Int], values: UnsafeBufferPointer<Float>)], to path: String,
    _ configuration: AdapterConfiguration
  ) throws {
    guard let next = buffers.first else {
      return try AdapterFile.save(to: path, configuration: configuration, tensors: tensors)
    }
    try next.values.withUnsafeBufferPointer { values in
      try save(Array(buffers.dropFirst()), tensors + [(next.name, next.shape, values)], to: path, configuration)
    }
  }

  static let q = "base_model.model.model.layers.0.self_attn.q_proj"
  static let pair = [("\(q).lora_A.weight", [2, 16]), ("\(q).lora_B.weight", [16, 2])]

  @Test func someLayersOnly() throws {
    let configuration = AdapterConfiguration(rank: 2, targetModules: ["q_proj"], layers: [0])
    #expect(failure(Self.pair, configuration) == "1 pairs")
    #expect(try AdapterFile.load(folder: "\(folder.path)/adapter").configuration == configuration)
    // As a state dictionary that was saved with the adapter's name in it.
    let named = Self.pair.map { ($0.0.replacing(".weight", with: ".default.weight"), $0.1) }
    #expect(failure(named, configuration) == "1 pairs")
  }

  static let wrong: [(tensors: [(String, [Int])], message: String)] = [
    ([], "the adapter has no tensors"),
    ([pair[0]], "lora_B of layer 0's q_proj is missing"),
    ([pair[1]], "lora_A of layer 0's q_proj is missing"),
    ([pair[0], ("\(q).lora_B.weight", [2, 16])], "tensor '\(q).lora_B.weight' has the shape [2, 16]; r = 2 asks for"),
    (
      [pair[0], ("\(q).lora_B.weight", [8, 2])], "tensor '\(q).lora_B.weight' has the shape [8, 2]; the model asks for"
    ),
    ([("\(q).lora_A.weight", [3, 16]), pair[1]], "tensor '\(q).lora_A.weight' has the shape [3, 16]; r = 2 asks for"),
    ([("\(q).lora_A.weight", [32]), pair[1]], "tensor '\(q).lora_A.weight' has the shape [32]; r = 2 asks for"),
    (
      pair + [("\(q).lora_A.default.weight", [2, 16])],
      "tensor '\(q).lora_A.weight' stands for the same matrix as '\(q).lora_A.default.weight'"
    ),
    (
      pair + [("\(q).lora_magnitude_vector.weight", [16])],
      "tensor '\(q).lora_magnitude_vector.weight' is none of a LoRA"
    ),
    (pair + [("\(q).lora_B.bias", [16])], "tensor '\(q).lora_B.bias' is none of a LoRA adapter"),
    (
      [("base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight", [2, 16])],
      "tensor 'base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight' belongs to the fused layout (qkv_proj)"
    ),
    (
      [("base_model.model.model.layers.0.mlp.gate_up_proj.lora_A.weight", [2, 16])],
      "tensor 'base_model.model.model.layers.0.mlp.gate_up_proj.lora_A.weight' belongs to the fused layout (gate_up_proj)"
    ),
    (
      [("base_model.model.lm_head.lora_A.weight", [2, 16])],
      "tensor 'base_model.model.lm_head.lora_A.weight' adapts 'lm_head'; only q_proj, "
    ),
    (
      [("base_model.model.model.layers.01.self_attn.q_proj.lora_A.weight", [2, 16])],
      "tensor 'base_model.model.model.layers.01.self_attn.q_proj.lora_A.weight' adapts 'model.layers.01.self_attn.q_proj'"
    ),
    (
      [("base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight", [2, 16])],
      "tensor 'base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight' is of layer 7; the model has 2 layers"
    ),
    ([("lora_unet_down", [2, 16])], "tensor 'lora_unet_down' is none of a PEFT adapter"),
    ([("base_model.model.", [2, 16])], "tensor 'base_model.model.' is none of a LoRA adapter"),
    (pair, "`target_modules` lists q_proj, but layer 1 has no tensors for it"),
  ]

  @Test(arguments: wrong) func wrongTensors(tensors: [(String, [Int])], message: String) {
    let found = failure(tensors, AdapterConfiguration(rank: 2, targetModules: ["q_proj", "other"]))
    #expect(found.hasPrefix("adapter/adapter_model.safetensors: \(message)"), "\(found)")
    #expect(!found.contains("\n"))
  }

  static let fields: [(key: String, value: JSONValue, message: String)] = [
    ("peft_type", "IA3", "`peft_type` is 'IA3'; only LORA"), ("task_type", "SEQ_CLS", "`task_type` is 'SEQ_CLS'"),
    ("bias", "all", "`bias` is 'all'"), ("use_dora", true, "`use_dora` is true; DoRA adapters cannot be loaded"),
    ("lora_bias", true, "`lora_bias` is true"), ("fan_in_fan_out", true, "`fan_in_fan_out` is true"),
    ("alpha_pattern", ["q_proj": 4], "`alpha_pattern` is set"),
    ("rank_pattern", ["q_proj": 4], "`rank_pattern` is set"),
    ("modules_to_save", ["lm_head"], "`modules_to_save` is set"),
    ("layer_replication", [[0, 1]], "`layer_replication` is set"),
    ("trainable_token_indices", [1], "`trainable_token_indices` is set"),
    ("init_lora_weights", "pissa_niter_4", "`init_lora_weights` is 'pissa_niter_4', which changed the base"),
    ("r", 0, "`r` must be"), ("r", "8", "`r` must be"), ("r", .null, "`r` must be"),
    ("lora_alpha", "x", "`lora_alpha` must be"), ("lora_dropout", 1.5, "`lora_dropout` must be"),
    ("target_modules", [1], "`target_modules` must be a list of names"),
  ]

  @Test(arguments: fields) func fieldsThatAskForMore(key: String, value: JSONValue, message: String) throws {
    var object = try #require(AdapterConfiguration(rank: 2).json.object)
    object[key] = value
    _ = try folder.write("adapter_config.json", JSONValue.object(object).serialized())
    let error = #expect(throws: ModelFileError.self) { try AdapterFile.load(folder: folder.path) }
    #expect(error?.path == "\(folder.path)/adapter_config.json")
    #expect(error?.message.hasPrefix(message) == true, "\(error as Any)")
  }

  @Test func harmlessFieldsAreAccepted() throws {
    var object = try #require(AdapterConfiguration(rank: 2, alpha: 0.5, targetModules: []).json.object)
    object["target_modules"] = "all-linear"
    object["init_lora_weights"] = "gaussian"
    object["eva_config"] = ["rho": 2]
    object["layers_to_transform"] = 3
    object["something_new"] = 1
    object["task_type"] = nil
    let configuration = try AdapterConfiguration(.object(object), path: "x")
    #expect(configuration == AdapterConfiguration(rank: 2, alpha: 0.5, targetModules: [], layers: [3]))
  }

  @Test func filesThatAreMissingOrDamaged() throws {
    func message() -> String {
      (#expect(throws: ModelFileError.self) { try AdapterFile.load(folder: folder.path) }).map { "\($0)" } ?? ""
    }
    #expect(message().hasSuffix("adapter_config.json: cannot open: no such file or folder"))
    _ = try folder.write("adapter_config.json", "{\"r\": 1, \"r\": 2}")
    #expect(message().contains("adapter_config.json: line 1"))
    _ = try folder.write("adapter_config.json", AdapterConfiguration().json.serialized())
    #expect(message().hasSuffix("adapter_model.safetensors: cannot open: no such file or folder"))
    _ = try folder.write("adapter_model.bin", "x")
    #expect(message().hasSuffix("this adapter is pickled (adapter_model.bin); save it as safetensors first"))
    let bytes = try #require(TemporaryFolder.bytes(of: "\(Self.golden)/adapter_model.safetensors"))
    for count in stride(from: 0, to: bytes.count, by: 97) {
      _ = try folder.write("adapter_model.safetensors", Array(bytes[..<count]))
      #expect(message().contains("adapter_model.safetensors: "))
    }
  }

  @Test func foldersThatCannotBeWritten() throws {
    let file = try folder.write("file", "x")
    for path in ["\(file)/adapter", "/proc/adapter", file] {
      #expect(throws: ModelFileError.self) {
        try AdapterFile.save(to: path, configuration: AdapterConfiguration(), tensors: [])
      }
    }
  }
}
