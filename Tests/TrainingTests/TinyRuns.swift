import CPUDevice
import Glibc
import JSONValues
import ModelFiles
import Models
import Tensors
import TestSupport
import Testing

@testable import Training

/// What tests of whole runs of a tiny model share.
class TinyRuns {
  let folder: TemporaryFolder
  let modelFolder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    modelFolder = try TemporaryFolder()
    try TinyModel(changing: ["vocab_size": 128]).write(to: modelFolder)
  }

  /// Eleven texts of several lengths: three steps an epoch, so that runs cross epochs.
  static let texts = (1...11).map { "{\"text\": \"\(String(repeating: "ab\($0)", count: $0))\"}\n" }.joined()

  func data(_ text: String = TinyRuns.texts, limit: Int = 32) throws -> TokenizedDataset {
    let path = try folder.write("data-\(text.utf8.count).jsonl", text)
    return try TokenizedDataset(
      Dataset(paths: [path]), encoder: ByteEncoder(), options: .init(maxSequenceLength: limit))
  }

  func configuration(_ change: (inout TrainingConfiguration) -> Void = { _ in }) -> TrainingConfiguration {
    var configuration = TrainingConfiguration(model: "tiny", data: "data.jsonl")
    configuration.batchSize = 2
    configuration.gradientAccumulation = 2
    configuration.maxSequenceLength = 32
    configuration.loraRank = 4
    configuration.learningRate = 5e-3
    configuration.warmupSteps = 2
    configuration.maxSteps = 11
    configuration.saveSteps = 4
    change(&configuration)
    return configuration
  }

  /// The tiny model in fp32.
  func model(_ directions: ProductDirections = .forward) throws -> LanguageModel {
    try LanguageModel(Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: .float32), directions: directions)
  }

  /// What a new process would do: loads the model and opens the run.
  func trainer(
    _ configuration: TrainingConfiguration, _ name: String, data: TokenizedDataset? = nil,
    evalData: TokenizedDataset? = nil, model: LanguageModel? = nil, compute: CPUDevice.Compute = .float32,
    startingFrom start: AdapterSum? = nil, sampler: Trainer.Sampler? = nil,
    began: Double = MonotonicClock.now()
  ) throws -> Trainer {
    let path = "\(folder.path)/\(name)"
    let model = try model ?? LanguageModel(Checkpoint.open(path: modelFolder.path), on: CPUDevice(compute: compute))
    return try Trainer(
      model, data: data ?? self.data(), evalData: evalData, configuration: configuration,
      folder: configuration.resume
        ? .resume(path, saveLimit: configuration.saveLimit) : .create(path, saveLimit: configuration.saveLimit),
      startingFrom: start, sampler: sampler, began: began)
  }

  /// Everything that a finished run leaves, times apart.
  func remains(_ name: String, step: Int) throws -> [String: [UInt8]] {
    let run = "\(folder.path)/\(name)"
    let checkpoint = "\(run)/checkpoints/step-0000\(step)"
    var files: [String: [UInt8]] = [:]
    let names = Folders.names(in: checkpoint)
    #expect(names.contains("optimizer.safetensors") && names.contains("trainer_state.json"))
    let results = ["adapter_model.safetensors", "model.safetensors"].filter { names.contains($0) }
    #expect(results.count == 1)
    for file in results.map({ "\(run)/\($0)" }) + names.map({ "\(checkpoint)/\($0)" }) {
      let bytes = try #require(TemporaryFolder.bytes(of: file))
      files[String(file.dropFirst(run.utf8.count))] = bytes
    }
    let metrics = try #require(TemporaryFolder.text(of: "\(run)/metrics.jsonl"))
    files["metrics"] = try metrics.split(separator: "\n").flatMap { line in
      var object = try #require(try JSONValue.parse(String(line)).object)
      object["tokens_per_second"] = nil
      object["memory_bytes"] = nil
      return Array(JSONValue.object(object).serialized().utf8) + [10]
    }
    return files
  }
}
