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
    let result = try AdapterExport.export(path, to: "\(folder.path)/\(output)", baseModel: "other")
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
      try AdapterExport.export("\(folder.path)/adapter", to: "\(folder.path)/out", for: model)
    }
    #expect(access("\(folder.path)/out", F_OK) != 0)
  }
}
