import CPUDevice
import Glibc
import JSONValues
import ModelFiles
import Models
import TestSupport
import Testing

@testable import Training

/// The sample model against transformers and PEFT: `Tests/Golden/sample_model.py` makes the golden values.
@Suite(
  .serialized, .enabled(if: getenv("SWIFTLET_SAMPLE_MODEL") != nil, "SWIFTLET_SAMPLE_MODEL is not set"))
struct SampleModelTests {
  private func open() throws -> Checkpoint {
    try Checkpoint.open(path: getenv("SWIFTLET_SAMPLE_MODEL").map { String(cString: $0) } ?? "")
  }

  private func golden(_ name: String) throws -> JSONValue {
    try JSONValue.parse(try #require(TemporaryFolder.text(of: goldenPath(name))))
  }

  private func tokens(_ golden: JSONValue) throws -> [Int32] {
    try #require(golden["tokens"]?.array).compactMap(\.integer).map { Int32($0) }
  }

  @Test(arguments: [(CPUDevice.Compute.float32, 1e-4), (.bfloat16, 2e-2)])
  func logitsAreThoseOfTransformers(_ compute: CPUDevice.Compute, _ tolerance: Double) throws {
    let golden = try golden("sample_logits.json")
    let model = try LanguageModel(open(), on: CPUDevice(compute: compute))
    let logits = try model.logits(tokens(golden))
    var (difference, norm) = (0.0, 0.0)
    for row in try #require(golden["rows"]?.array) {
      let first = try #require(row["position"]?.integer) * model.configuration.vocabularySize
      let ids = try #require(row["ids"]?.array).compactMap(\.integer)
      let values = try #require(row["logits"]?.array).compactMap(\.double)
      #expect(ids.count == 128 && values.count == 128)
      for (id, value) in zip(ids, values) {
        let found = Double(logits[first + id])
        difference += (found - value) * (found - value)
        norm += value * value
      }
      // The likeliest token is the same one, unless it leads by less than what bf16 rounds off.
      if values[0] - values[1] > 0.2 {
        let best = logits[first..<first + model.configuration.vocabularySize].indices.max { logits[$0] < logits[$1] }
        #expect(best == first + ids[0])
      }
    }
    let error = (difference / norm).squareRoot()
    #expect(error < tolerance)
  }

  /// Twenty steps of AdamW with weight decay, clipping, warm-up and linear decay, two micro-batches a step.
  @Test func lossesAreThoseOfPEFT() throws {
    let golden = try golden("sample_training.json")
    let tokens = try tokens(golden)
    let losses = try #require(golden["losses"]?.array).compactMap(\.double)
    let norms = try #require(golden["gradient_norms"]?.array).compactMap(\.double)
    let (steps, length) = (20, 64)
    #expect(losses.count == steps && norms.count == steps && tokens.count == steps * 4 * length)

    let configuration = TrainingConfiguration()
    let model = try LanguageModel(open(), on: CPUDevice(compute: .float32), directions: [.forward, .backward])
    let adapter = try model.makeAdapter(LoRAConfiguration(), training: true)
    try adapter.initialize(seed: configuration.seed)
    model.attach(adapter)
    let optimizer = try Optimizer(adapter, on: model.device)
    let schedule = LearningRateSchedule(configuration, totalSteps: steps)
    for step in 0..<steps {
      let microBatches = (0..<2).map { micro in
        var batch = PackedBatch()
        for sequence in 2 * micro..<2 * micro + 2 {
          let start = (step * 4 + sequence) * length
          batch.append(
            Array(tokens[start..<start + length]), isTrained: (0..<length).map { $0 >= 8 * sequence })
        }
        return batch
      }
      let result = try model.trainingStep(
        microBatches, optimizer, learningRate: schedule.learningRate(atStep: step), seed: configuration.seed)
      #expect(abs(result.loss / losses[step] - 1) < 1e-3, "step \(step + 1)")
      #expect(abs(result.gradientNorm / norms[step] - 1) < 1e-2, "step \(step + 1)")
    }
    let values = try adapter.values()
    func norm(_ range: Range<Int>) -> Double {
      values[range].reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    }
    let a = norm(0..<adapter.boundary) / (try #require(golden["norm_of_a"]?.double))
    let b = norm(adapter.boundary..<adapter.count) / (try #require(golden["norm_of_b"]?.double))
    #expect(abs(a - 1) < 1e-4 && abs(b - 1) < 1e-2)
    try write(adapter, model)
  }

  /// Leaves the adapter and its logits for `sample_model.py adapter`.
  private func write(_ adapter: Adapter, _ model: LanguageModel) throws {
    guard let folder = getenv("SWIFTLET_ADAPTER_OUT").map({ String(cString: $0) }) else { return }
    try adapter.save(to: folder, baseModel: nil)
    let tokens = try tokens(golden("sample_logits.json"))
    let writer = try SafetensorsWriter(
      path: "\(folder)/logits.safetensors",
      tensors: [
        SafetensorsEntry("logits", shape: [tokens.count, model.configuration.vocabularySize], format: .float32)
      ])
    try writer.append(try model.logits(tokens), to: "logits")
    try writer.finish()
  }
}
