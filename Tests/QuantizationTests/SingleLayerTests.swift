import CPUDevice
import Foundation
import ModelFiles
import Models
import Testing

@testable import Quantization

/// How well calibration ranks the layers of a real model; many minutes, so on request alone.
///
/// SWIFTLET_LAYERS="MODEL MEASUREMENTS TOKENS.json [fp32]": a folder in 16 bits, what `quantize --measurements` wrote of it,
/// and what `tokenize --no-special-tokens --json` prints of another text, of which the first 2,048 tokens are read. Prints
/// lines of JSON: of all layers together, then of each. A changed layer makes all behind it round otherwise, which in bf16
/// adds to the true divergences; in fp32 a layer's own is seen.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["SWIFTLET_LAYERS"] != nil, "SWIFTLET_LAYERS is not set"))
struct SingleLayerTests {
  @Test func ranksOfPredictionsAreThoseOfTrueDivergences() throws {
    let words = (ProcessInfo.processInfo.environment["SWIFTLET_LAYERS"] ?? "").split(separator: " ").map(String.init)
    try #require((3...4).contains(words.count))
    let compute: CPUDevice.Compute = words.dropFirst(3).first == "fp32" ? .float32 : .automatic
    struct Tokens: Decodable { var ids: [Int32] }
    let text = try JSONDecoder().decode(Tokens.self, from: Data(contentsOf: URL(fileURLWithPath: words[2])))
    var export = try BitsAndBytesExport(of: words[0])
    let calibration = try Calibration(contentsOf: words[1], of: export.checkpoint)
    try export.quantize(.nearest, calibration)
    let all = Set(export.layers.map(\.name))
    let choices =
      [Finalist(kept: [], predictedKL: export.layers.reduce(0) { $0 + ($1.predictedKL ?? 0) })]
      + export.layers.map { Finalist(kept: all.subtracting([$0.name]), predictedKL: $0.predictedKL ?? 0) }
    try export.keepBest(
      of: choices, by: LanguageModel(export.checkpoint, on: CPUDevice(compute: compute)),
      on: Array(text.ids.prefix(2048)))
    let measured = export.finalists.compactMap(\.measuredKL)
    let predicted = choices.map(\.predictedKL)
    let correlation = Self.rankCorrelation(Array(predicted.dropFirst()), Array(measured.dropFirst()))
    let sum = measured.dropFirst().reduce(0, +)
    print(
      "{\"layers\": \(export.layers.count), \"rank_correlation\": \(correlation), \"measured_kl\": \(measured[0]), "
        + "\"sum_of_measured\": \(sum), \"sum_of_predicted\": \(predicted[0])}")
    for (layer, value) in zip(export.layers, measured.dropFirst()) {
      print("{\"layer\": \"\(layer.name)\", \"predicted\": \(layer.predictedKL ?? 0), \"measured\": \(value)}")
    }
    #expect(correlation > 0.8)
  }

  /// Spearman's.
  private static func rankCorrelation(_ a: [Double], _ b: [Double]) -> Double {
    func ranks(_ values: [Double]) -> [Double] {
      var ranks = [Double](repeating: 0, count: values.count)
      for (rank, index) in values.indices.sorted(by: { values[$0] < values[$1] }).enumerated() {
        ranks[index] = Double(rank)
      }
      return ranks
    }
    let (x, y) = (ranks(a), ranks(b))
    let mean = Double(a.count - 1) / 2
    let covariance = zip(x, y).reduce(0.0) { $0 + ($1.0 - mean) * ($1.1 - mean) }
    return covariance / x.reduce(0.0) { $0 + ($1 - mean) * ($1 - mean) }
  }
}
