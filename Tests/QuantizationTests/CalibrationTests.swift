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

  @Test func layerByLayerIsAllAtOnce() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.wide, seed: 9).write(to: folder)
    let checkpoint = try Checkpoint.open(path: folder.path)
    let tokens = (0..<3 * Calibrator.window).map { Int32($0 * 11 % 24) }
    let calibrator = Calibrator(try LanguageModel(checkpoint, on: CPUDevice()), checkpoint)
    let whole = try calibrator.read(tokens, correlated: 0..<2)
    #expect(whole.hasCorrelations(of: 0..<2))
    var parts = try calibrator.read(tokens)
    #expect(parts.sensitivities == whole.sensitivities && !parts.hasCorrelations(of: 0..<1))
    for block in [1, 0] {
      let found = try calibrator.read(tokens, correlated: block..<block + 1, measures: false)
      // Blocks above and below are not looked at.
      #expect(found.inputs.count == 4 && found.sensitivities.isEmpty)
      parts = parts.addingCorrelations(of: found)
    }
    for (group, statistics) in whole.inputs {
      #expect(parts.inputs[group]?.correlations == statistics.correlations)
      #expect(parts.inputs[group]?.moments == statistics.moments)
    }
  }

  @Test func memoryIsBoundedByReadingMoreOften() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.wide.merged(["num_hidden_layers": 7])).write(to: folder)
    let checkpoint = try Checkpoint.open(path: folder.path)
    let calibrator = Calibrator(try LanguageModel(checkpoint, on: CPUDevice()), checkpoint)
    let memory = try calibrator.memory(for: .compensated)
    // Three inputs of 64 and one of 128.
    #expect(memory.correlationsOfBlock == 4 * (3 * 64 * 64 + 128 * 128))
    #expect(memory.activations > 0 && memory.backwardMatrices > 0 && memory.codes > 0)
    #expect(memory.passes(within: memory.byteCount(blocksAtOnce: 1) - 1) == nil)
    #expect(memory.passes(within: memory.byteCount(blocksAtOnce: 1)) == (0..<7).map { $0..<$0 + 1 })
    #expect(memory.passes(within: memory.byteCount(blocksAtOnce: 3)) == [0..<2, 2..<4, 4..<7])
    #expect(memory.passes(within: .max / 2) == [0..<7])
    let plain = try calibrator.memory(for: .nearest)
    #expect(plain.passes(within: .max / 2) == [] && plain.passes(within: 1000) == nil && plain.codes == 0)
  }

  @Test func measurementsAreKeptForOtherBudgets() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.wide, seed: 10).write(to: folder)
    let checkpoint = try Checkpoint.open(path: folder.path)
    let tokens = (0..<2 * Calibrator.window).map { Int32($0 * 13 % 24) }
    let found = try Calibrator(LanguageModel(checkpoint, on: CPUDevice()), checkpoint).read(tokens)
    let path = folder.path + "/measured"
    try found.save(to: path, of: checkpoint, text: tokens)
    let read = try Calibration(contentsOf: path, of: checkpoint, text: tokens)
    #expect(read.changes == found.changes && read.tokens == found.tokens && read.inputs.count == found.inputs.count)
    for (group, statistics) in found.inputs { #expect(read.inputs[group]?.moments == statistics.moments) }
    func message(_ work: () throws -> Calibration) throws -> String {
      try #require(throws: ModelFileError.self) { _ = try work() }.description
    }
    #expect(
      try message { try Calibration(contentsOf: path, of: checkpoint, text: Array(tokens.dropLast())) }
        .contains("another text"))
    let other = try TemporaryFolder()
    try TinyModel(changing: Self.wide, seed: 11).write(to: other)
    #expect(
      try message { try Calibration(contentsOf: path, of: Checkpoint.open(path: other.path)) }.contains("other weights")
    )
    #expect(
      try message { try Calibration(contentsOf: folder.path + "/model.safetensors", of: checkpoint) }
        .contains("no measurements"))
    // Cut, and with a number that is no sum of squares.
    let bytes = try #require(try? MappedFile.contents(of: path))
    _ = try folder.write("cut", Array(bytes.dropLast(100)))
    #expect(throws: ModelFileError.self) {
      _ = try Calibration(contentsOf: folder.path + "/cut", of: checkpoint)
    }
    _ = try folder.write("odd", bytes.dropLast(4) + [0, 0, 0xC0, 0x7F])
    #expect(
      try message { try Calibration(contentsOf: folder.path + "/odd", of: checkpoint) }.contains("no sums of squares"))
  }

  @Test func finalistsAreMeasuredAsTheyAreWritten() throws {
    let folder = try TemporaryFolder()
    try TinyModel(changing: Self.wide.merged(["num_hidden_layers": 4]), seed: 12).write(to: folder)
    var random = SeededRandom(seed: 13)
    let tokens = (0..<14 * Calibrator.window).map { _ in Int32.random(in: 0..<24, using: &random) }
    let (read, held) = (Array(tokens[..<(12 * Calibrator.window)]), Array(tokens[(12 * Calibrator.window)...]))
    let checkpoint = try Checkpoint.open(path: folder.path)
    let model = try LanguageModel(checkpoint, on: CPUDevice(compute: .float32))
    for rounding in [Rounding.searched, .nearest] {
      var export = try BitsAndBytesExport(of: folder.path)
      let calibration = try export.calibrate(model, on: read, correlates: false)
      try export.quantize(rounding, calibration)
      let choices = try export.finalists(percent: 40, calibration, count: 5)
      #expect(choices.count > 1 && Set(choices.map(\.kept)).count == choices.count)
      var predicted = export
      try predicted.keepBest(percent: 40)
      #expect(Set(predicted.layers.filter(\.isKept).map(\.name)) == choices[0].kept)
      #expect(choices.allSatisfy { $0.predictedKL >= choices[0].predictedKL - 1e-12 })
      try export.keepBest(of: choices, by: LanguageModel(checkpoint, on: CPUDevice(compute: .float32)), on: held)
      let kept = Set(export.layers.filter(\.isKept).map(\.name))
      let best = try #require(export.finalists.min { ($0.measuredKL ?? 0) < ($1.measuredKL ?? 0) })
      #expect(best.kept == kept && export.finalists.count == choices.count)
      let output = "\(folder.path)/\(rounding)"
      try export.write(to: output)
      let written = try divergence(output, from: model, held)
      let measured = try #require(best.measuredKL)
      #expect(abs(measured / written - 1) < 1e-3, "\(best) \(written)")
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
