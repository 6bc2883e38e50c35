import CPUDevice
import JSONValues
import ModelFiles
import Models
import TestSupport
import Testing

@testable import Quantization

@Suite struct CalibrationTests {
  static let wide: JSONObject = [
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "tie_word_embeddings": false,
  ]

  /// The mean KL of a quantized folder from the original over windows of tokens.
  func divergence(_ folder: String, from original: LanguageModel, _ tokens: [Int32]) throws -> Double {
    let model = try LanguageModel(Checkpoint.open(path: folder), on: CPUDevice(compute: .float32))
    var values: [Double] = []
    for start in stride(from: 0, to: tokens.count, by: Calibrator.window) {
      var batch = PackedBatch()
      let ids = Array(tokens[start..<min(start + Calibrator.window, tokens.count)])
      batch.append(ids, isTrained: ids.map { _ in true })
      var rows: [[Float]] = []
      _ = try original.logits(of: batch) { rows.append(try original.device.floats($0)) }
      var chunk = 0
      _ = try model.logits(of: batch) { logits in
        values +=
          Distributions.divergence(
            rows[chunk], try model.device.floats(logits), rows: logits.rows, vocabulary: logits.columns
          ).divergence
        chunk += 1
      }
    }
    return values.reduce(0, +) / Double(values.count)
  }

  @Test func predictsWhatQuantizingEachLayerCosts() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.wide, seed: 5).write(to: folder)
    var random = SeededRandom(seed: 6)
    let tokens = (0..<40 * Calibrator.window).map { _ in Int32.random(in: 0..<24, using: &random) }
    let text = Array(tokens[..<(6 * Calibrator.window)])
    let model = try LanguageModel(Checkpoint.open(path: folder.path), on: CPUDevice(compute: .float32))
    let export = try BitsAndBytesExport(of: folder.path)
    let calibration = try export.calibrate(model, on: tokens, correlates: false)
    #expect(calibration.tokens == 40 * (Calibrator.window - 1) && calibration.sensitivities.count == 14)
    var pairs: [(predicted: Double, measured: Double)] = []
    let all = Set(export.layers.map(\.name))
    for name in all.sorted() {
      var single = try BitsAndBytesExport(of: folder.path)
      single.keep(all.subtracting([name]))
      let output = folder.path + "/" + name
      try single.write(to: output)
      pairs.append(
        (try #require(calibration.sensitivities[name]), try divergence(output, from: model, text)))
    }
    let sums = pairs.reduce((0.0, 0.0)) { ($0.0 + $1.predicted, $0.1 + $1.measured) }
    #expect(sums.0 / sums.1 > 0.5 && sums.0 / sums.1 < 2, "\(pairs)")
    // Ranks agree.
    func ranks(_ values: [Double]) -> [Double] {
      values.map { value in Double(values.count { $0 < value }) }
    }
    let (a, b) = (ranks(pairs.map(\.predicted)), ranks(pairs.map(\.measured)))
    let mean = Double(a.count - 1) / 2
    let covariance = zip(a, b).reduce(0.0) { $0 + ($1.0 - mean) * ($1.1 - mean) }
    let variance = a.reduce(0.0) { $0 + ($1 - mean) * ($1 - mean) }
    #expect(covariance / variance > 0.5, "\(pairs)")
  }

  @Test func theSameSeedGivesTheSameNumbers() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.wide, seed: 7).write(to: folder)
    let tokens = (0..<2 * Calibrator.window).map { Int32($0 * 7 % 24) }
    let found = try (0..<2).map { _ in
      let model = try LanguageModel(Checkpoint.open(path: folder.path), on: CPUDevice())
      return try BitsAndBytesExport(of: folder.path).calibrate(model, on: tokens, correlates: true)
    }
    #expect(found[0].sensitivities == found[1].sensitivities)
    let first = try #require(found[0].statistics(layer: 1, .value))
    #expect(first.moments == found[1].statistics(layer: 1, .key)?.moments && first.correlations.count == 64 * 64)
    for i in 0..<64 {
      #expect(abs(first.correlations[i * 65] / first.moments[i] - 1) < 0.02)
    }
    #expect(found[0].statistics(layer: 0, .down)?.moments.count == 128)
  }

  @Test func aBudgetIsFilledAndKept() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.wide, seed: 8).write(to: folder)
    let tokens = (0..<2 * Calibrator.window).map { Int32($0 * 5 % 24) }
    let model = try LanguageModel(Checkpoint.open(path: folder.path), on: CPUDevice())
    var export = try BitsAndBytesExport(of: folder.path)
    let calibration = try export.calibrate(model, on: tokens, correlates: false)
    try export.quantize(.searched, calibration)
    for percent in [20.0, 60, 120] {
      try export.keepBest(percent: percent)
      let share = Double(export.byteCount) / Double(export.plainByteCount) - 1
      #expect(share <= percent / 100 && export.layers.contains(where: \.isKept))
    }
    #expect(throws: QuantizationError.self) { try export.keepBest(percent: 1e-4) }
    #expect(throws: QuantizationError.self) { try export.keepBest(percent: 900) }
    #expect(throws: QuantizationError.self) { try export.keepBest(percent: -1) }
    #expect(throws: QuantizationError.self) { try export.keepLikeUnsloth() }
    try export.keepBest(percent: 60)
    let report = QuantizationReport(
      of: export, method: "dynamic", model: "a<b", budget: 60, calibrationTokens: calibration.tokens)
    let result = try export.write(to: folder.path + "/out", report: report)
    let json = try readJSON(folder.path + "/out/quantization.json")
    #expect(json["layers"]?.array?.count == 14 && json["bytes"]?.integer == result.byteCount)
    let kept = json["layers"]?.array?.filter { $0["kept"] == true }.compactMap { $0["name"]?.string }
    #expect(kept == result.kept && !result.kept.isEmpty)
    let page = try #require(TemporaryFolder.text(of: folder.path + "/out/quantization.html"))
    #expect(page.contains("Quantization of a&lt;b") && page.contains("class=\"kept\""))
    let quantized = try Checkpoint.open(path: folder.path + "/out")
    for layer in export.layers {
      #expect(try quantized.tensor(layer.name + ".weight").format == (layer.isKept ? .float32 : .nf4))
    }
  }

  @Test func tooLittleTextIsRefused() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.wide).write(to: folder)
    let model = try LanguageModel(Checkpoint.open(path: folder.path), on: CPUDevice())
    #expect(throws: ModelError.self) {
      _ = try BitsAndBytesExport(of: folder.path).calibrate(model, on: [1, 2, 3], correlates: false)
    }
  }
}
