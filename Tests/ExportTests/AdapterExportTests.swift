import Glibc
import ModelFiles
import TestSupport
import Testing
import Training

@testable import Export

@Suite struct AdapterExportTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// An adapter of one pair whose A is filled with `value`.
  static func write(_ value: Float, to path: String) throws {
    let values = Array(repeating: value, count: 8)
    try values.withUnsafeBufferPointer { values in
      try AdapterFile.save(
        to: path, configuration: .init(rank: 2, alpha: 4, targetModules: ["v_proj"], baseModel: "base"),
        tensors: [
          ("base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight", [2, 4], values),
          ("base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight", [4, 2], values),
        ])
    }
  }

  /// The value of the adapter that is exported from `path`.
  private func exported(_ path: String, _ output: String) throws -> Float? {
    let result = try AdapterExport.export([path], to: "\(folder.path)/\(output)", baseModel: "other")
    #expect(result.adapter.configuration.baseModel == "other" && result.adapter.configuration.scale == 2)
    return try result.adapter.pairs[0].a.decoded().first
  }

  @Test func theAdapterOfARun() throws {
    let run = "\(folder.path)/run"
    let store = CheckpointStore(runPath: run)
    let empty = #expect(throws: RunError.self) { try exported(run, "a") }
    #expect(empty?.message == "neither an adapter (adapter_config.json) nor a run with checkpoints")
    for step in 1...3 { try store.save(step: step) { try Self.write(Float(step), to: $0) } }
    #expect(try exported(run, "latest") == 3)
    #expect(try exported("\(run)/checkpoints/step-000002", "second") == 2)
    try store.markBest(step: 1)
    #expect(try exported(run, "best") == 1)
    #expect(try exported("\(run)/latest", "link") == 3)
    // What the finished run left stands before its checkpoints.
    try Self.write(9, to: run)
    #expect(try exported(run, "finished") == 9)
    let again = #expect(throws: RunError.self) { try exported(run, "finished") }
    #expect(again?.message.hasPrefix("the folder holds an adapter already") == true)
    #expect(throws: RunError.self) { try exported(run, "run") }
  }

  @Test func damagedCheckpointsAreNotTaken() throws {
    let run = "\(folder.path)/run"
    let store = CheckpointStore(runPath: run)
    for step in 1...2 { try store.save(step: step) { try Self.write(Float(step), to: $0) } }
    try store.markBest(step: 2)
    truncate("\(run)/checkpoints/step-000002/adapter_model.safetensors", 100)
    #expect(try exported(run, "a") == 1)
    truncate("\(run)/checkpoints/step-000001/adapter_model.safetensors", 100)
    let error = #expect(throws: RunError.self) { try exported(run, "b") }
    #expect(error?.message.hasPrefix("no whole checkpoint here: ") == true)
  }

  @Test func theModelMustFit() throws {
    try Self.write(1, to: "\(folder.path)/adapter")
    let model = ModelConfiguration(
      vocabularySize: 8, hiddenSize: 6, intermediateSize: 8, layerCount: 1, headCount: 1, keyValueHeadCount: 1)
    #expect(throws: ModelFileError.self) {
      try AdapterExport.export(["\(folder.path)/adapter"], to: "\(folder.path)/out", for: model)
    }
    #expect(access("\(folder.path)/out", F_OK) != 0)
  }
}

/// Sums of adapters, and adapters of fused matrices, as files.
@Suite struct WrittenAdapterTests {
  let folder: TemporaryFolder
  static let tiny = TinyModel(changing: ConversionTests.phi3)
  static let model = try? ModelConfiguration(json: .object(tiny.config), path: "config.json")

  init() throws { folder = try TemporaryFolder() }

  /// scale · B · A of every projection.
  private func products(_ name: String) throws -> [String: [Double]] {
    let file = try AdapterFile.load(folder: "\(folder.path)/\(name)", for: Self.model)
    var products: [String: [Double]] = [:]
    for pair in file.pairs {
      let (a, b) = (try pair.a.decoded(), try pair.b.decoded())
      let (rank, inputs) = (pair.rank, pair.a.rowLength)
      products["\(pair.layer).\(pair.projection)"] = (0..<pair.b.rowCount * inputs).map { index in
        pair.scale
          * (0..<rank).reduce(0.0) {
            $0 + Double(b[index / inputs * rank + $1]) * Double(a[$1 * inputs + index % inputs])
          }
      }
    }
    return products
  }

  private func expectSame(
    _ found: [String: [Double]], _ expected: [String: [Double]], _ location: SourceLocation = #_sourceLocation
  ) {
    for (key, values) in found {
      guard let wanted = expected[key] else {
        #expect(values.allSatisfy { $0 == 0 }, "\(key)", sourceLocation: location)
        continue
      }
      #expect(zip(values, wanted).allSatisfy { abs($0 - $1) < 1e-5 }, "\(key)", sourceLocation: location)
    }
    #expect(Set(expected.keys).isSubset(of: found.keys), sourceLocation: location)
  }

  @Test(arguments: [Conversion.Layout.llama, .phi3]) func sums(layout: Conversion.Layout) throws {
    // Phi-3's own matrices in one, two projections of one layer in the other.
    var one = TinyAdapter(Self.tiny.linearLayers, rank: 2, alpha: 3)
    one.config["use_rslora"] = true
    try one.write(to: folder, "one")
    let two = TinyAdapter(
      [("model.layers.1.self_attn.v_proj", 8, 16), ("model.layers.1.mlp.down_proj", 16, 24)], rank: 3, alpha: 1, seed: 9
    )
    try two.write(to: folder, "two")
    for (name, sources) in [("just", ["one"]), ("some", ["two"]), ("both", ["one", "two"])] {
      let result = try AdapterExport.export(
        sources.map { "\(folder.path)/\($0)" }, to: "\(folder.path)/\(name)", for: Self.model, in: layout)
      #expect(result.sources.count == sources.count)
      var expected: [String: [Double]] = [:]
      for source in sources {
        for (key, values) in try products(source) {
          expected[key] = expected[key].map { zip($0, values).map(+) } ?? values
        }
      }
      expectSame(try products(name), expected)
      let json = try readJSON("\(folder.path)/\(name)/adapter_config.json")
      let modules = Set(json["target_modules"]?.array?.compactMap(\.string) ?? [])
      if name == "some" {
        #expect(json["layers_to_transform"] == [1])
        #expect(modules == (layout == .llama ? ["v_proj", "down_proj"] : ["qkv_proj", "down_proj"]))
      } else {
        #expect(json["layers_to_transform"]?.isNull == true && modules.contains("qkv_proj") == (layout == .phi3))
      }
    }
    // What was fused comes back with its one A.
    if layout == .phi3 {
      let file = try SafetensorsFile(path: "\(folder.path)/just/adapter_model.safetensors")
      let name = "base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight"
      #expect(file.tensor(name)?.shape == [2, 16])
    }
  }
}
