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

  static func fused(_ name: String, _ rows: Int) -> [(String, [Int])] {
    let path = "base_model.model.model.layers.0.\(name)"
    return [("\(path).lora_A.weight", [2, 16]), ("\(path).lora_B.weight", [rows, 2])]
  }

  @Test func fusedPairsAreCut() throws {
    let shapes = Self.fused("self_attn.qkv_proj", 32) + Self.fused("mlp.gate_up_proj", 48)
    let configuration = AdapterConfiguration(rank: 2, targetModules: ["qkv_proj", "gate_up_proj"], layers: [0])
    let path = try write(shapes, configuration)
    let adapter = try AdapterFile.load(folder: path, for: Self.model)
    #expect(adapter.pairs.map(\.projection) == ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"])
    #expect(adapter.pairs.map(\.b.shape) == [[16, 2], [8, 2], [8, 2], [24, 2], [24, 2]])
    for pair in adapter.pairs { #expect(try pair.a.decoded() == (0..<32).map { Float($0) }, "A is shared") }
    #expect(try adapter.pairs[1].b.decoded() == (32..<48).map { Float($0) })
    #expect(try adapter.pairs[4].b.decoded() == (48..<96).map { Float($0) })
    #expect(adapter.pairs[2].b.name == "base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight")
    let error = #expect(throws: ModelFileError.self) { try AdapterFile.load(folder: path) }
    #expect(error?.message.contains("belongs to a fused matrix") == true, "only a model says where to cut")
    // A projection that target_modules lists must have its tensors in each layer.
    let listed = AdapterConfiguration(rank: 2, targetModules: ["qkv_proj"])
    #expect(failure(shapes, listed).contains("`target_modules` lists qkv_proj, but layer 1 has no tensors for it"))
  }

  @Test func magnitudesOfFusedMatricesAreCut() throws {
    let name = "base_model.model.model.layers.0.self_attn.qkv_proj.lora_magnitude_vector"
    let configuration = AdapterConfiguration(rank: 2, usesDoRA: true, targetModules: ["qkv_proj"], layers: [0])
    let shapes = Self.fused("self_attn.qkv_proj", 32)
    let adapter = try AdapterFile.load(folder: write(shapes + [(name, [32])], configuration), for: Self.model)
    #expect(
      try adapter.pairs.map { try $0.magnitude?.decoded() } == [0..<16, 16..<24, 24..<32].map { $0.map(Float.init) })
    #expect(
      failure(shapes + [(name, [24])], configuration).contains("has the shape [24] in layer 0; the model asks for [32]")
    )
    #expect(failure(shapes, configuration).contains("`use_dora` is true, but layer 0's q_proj has no magnitudes"))
    #expect(failure(shapes + [(name, [32, 1])], configuration).contains("has the shape [32, 1]; a vector is needed"))
  }

  @Test func patternsGiveModulesTheirOwnRankAndAlpha() throws {
    let path = "base_model.model.model.layers.1.mlp.down_proj"
    var configuration = AdapterConfiguration(rank: 2, alpha: 8, targetModules: [])
    configuration.rankPattern = ["layers.1.mlp.down_proj": 4, "down_proj": 3]
    configuration.alphaPattern = ["^model.layers.1.mlp.down_proj": 6, "proj": 100]
    let shapes = Self.pair + [("\(path).lora_A.weight", [4, 24]), ("\(path).lora_B.weight", [16, 4])]
    let folder = try write(shapes, configuration)
    let adapter = try AdapterFile.load(folder: folder, for: Self.model)
    #expect(adapter.configuration == configuration, "patterns are written and read")
    #expect(adapter.pairs.map(\.rank) == [2, 4] && adapter.pairs.map(\.scale) == [4, 1.5])
    configuration.rankPattern = ["layers.1.mlp.down_proj": 5]
    #expect(failure(shapes, configuration).contains("has the shape [4, 24]; r = 5 asks for [5, input width]"))
    for (key, message) in [
      ("layers\\.[01]\\.", "has the regular expression 'layers.[01].'"), ("", "has the regular expression ''"),
    ] {
      var object = try #require(AdapterConfiguration(rank: 2).json.object)
      object["alpha_pattern"] = [key: 4]
      let error = #expect(throws: ModelFileError.self) { try AdapterConfiguration(.object(object), path: "x") }
      #expect(
        error?.message.hasPrefix("`alpha_pattern` ") == true && error?.message.contains("regular expression") == true,
        "\(message)")
    }
  }

  @Test func sumsOfAdapters() throws {
    func values(_ adapter: AdapterSum, _ layer: Int, _ module: TargetModule) throws -> [Float]? {
      // B · A times the scale.
      guard let (a, b) = try adapter.decode(layer: layer, module: module) else { return nil }
      let rank = adapter.configuration.rank
      let (rows, columns) = (b.count / rank, a.count / rank)
      return (0..<rows * columns).map { index in
        let (row, column) = (index / columns, index % columns)
        return (0..<rank).reduce(0) { $0 + b[row * rank + $1] * a[$1 * columns + column] }
          * Float(adapter.configuration.scale)
      }
    }
    func open(_ rank: Int, _ alpha: Double, _ layer: Int) throws -> AdapterFile {
      let path = "base_model.model.model.layers.\(layer).self_attn.k_proj"
      let folder = try write(
        [("\(path).lora_A.weight", [rank, 16]), ("\(path).lora_B.weight", [8, rank])],
        AdapterConfiguration(rank: rank, alpha: alpha, targetModules: ["k_proj"], layers: [layer]))
      // The next one is written to the same place.
      let moved = "\(self.folder.path)/adapter-\(rank)-\(layer)"
      #expect(rename(folder, moved) == 0)
      return try AdapterFile.load(folder: moved, for: Self.model)
    }
    let (one, two, other) = (try open(1, 4, 0), try open(3, 6, 0), try open(2, 2, 1))
    let single = try AdapterSum([two])
    #expect(single.configuration == two.configuration, "one adapter is its own sum")
    #expect(try single.decode(layer: 0, module: .key)?.b == two.pairs[0].b.decoded())
    #expect(try single.decode(layer: 1, module: .key) == nil && single.decode(layer: 0, module: .query) == nil)
    let sum = try AdapterSum([one, two, other])
    #expect(sum.configuration.rank == 4 && sum.configuration.scale == 1 && sum.layers == [0, 1])
    let expected = zip(
      try #require(try values(AdapterSum([one]), 0, .key)), try #require(try values(AdapterSum([two]), 0, .key))
    ).map(+)
    for (found, wanted) in zip(try #require(try values(sum, 0, .key)), expected) {
      #expect(abs(found - wanted) <= 1e-5 * max(1, abs(wanted)))
    }
    #expect(try values(sum, 1, .key) == values(AdapterSum([other]), 1, .key))
    #expect(throws: ModelFileError.self) { try AdapterSum([]) }
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
      "`use_dora` is false, but layer 0's q_proj has magnitudes"
    ),
    (pair + [("\(q).lora_B.bias", [16])], "tensor '\(q).lora_B.bias' is none of a LoRA adapter"),
    (
      [("base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight", [2, 16])],
      "lora_B of layer 0's qkv_proj is missing"
    ),
    (
      fused("self_attn.qkv_proj", 48),
      "tensor 'base_model.model.model.layers.0.self_attn.qkv_proj.lora_B.weight' has the shape [48, 2]; the model asks "
        + "for [32, 2]"
    ),
    (
      pair + fused("self_attn.qkv_proj", 32),
      "tensor 'base_model.model.model.layers.0.self_attn.qkv_proj.lora_B.weight' stands for the same matrix as "
        + "'\(q).lora_B.weight', fused with others and by itself"
    ),
    (
      [("base_model.model.lm_head.base_layer.weight", [32, 16])],
      "tensor 'base_model.model.lm_head.base_layer.weight' is a layer saved whole"
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
    ("bias", "all", "`bias` is 'all'"), ("use_qalora", true, "`use_qalora` is true; QALoRA"),
    ("lora_bias", true, "`lora_bias` is true"),
    ("alpha_pattern", ["q_proj": "x"], "`alpha_pattern` has \"x\" for 'q_proj'"),
    ("rank_pattern", ["q_proj": 0], "`rank_pattern` has 0 for 'q_proj'"),
    ("rank_pattern", [8], "`rank_pattern` is an array"),
    ("layers_to_transform", [0.5], "`layers_to_transform` must be"),
    ("modules_to_save", ["lm_head"], "`modules_to_save` is set"),
    ("layer_replication", [[0, 1]], "`layer_replication` is set"),
    ("trainable_token_indices", [1], "`trainable_token_indices` is set"),
    ("use_magic", true, "`use_magic` is true, a setting that is not known here"),
    ("magic_config", ["a": 1], "`magic_config` is set, which is not known here"),
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
    // PEFT itself takes no notice of it where a layer is a plain linear one.
    object["fan_in_fan_out"] = true
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
