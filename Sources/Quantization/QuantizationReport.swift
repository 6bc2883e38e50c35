import JSONValues
import ModelFiles

/// What was measured of each linear layer, and what was done with it.
public struct QuantizationReport: Sendable {
  /// "nf4" or "dynamic".
  public var method: String
  /// The model that was quantized.
  public var model: String
  /// Per cent of bytes beyond plain NF4 that were allowed; nil where there was no budget.
  public var budget: Double?
  /// Tokens of calibration text; 0 without.
  public var calibrationTokens: Int
  private let layers: [LinearLayer]
  private let rounding: Rounding
  private let plainByteCount: Int
  private let byteCount: Int
  private let finalists: [Finalist]

  /// The report of an export.
  public init(
    of export: BitsAndBytesExport, method: String, model: String, budget: Double?, calibrationTokens: Int
  ) {
    self.method = method
    self.model = model
    self.budget = budget
    self.calibrationTokens = calibrationTokens
    layers = export.layers
    rounding = export.rounding
    plainByteCount = export.plainByteCount
    byteCount = export.byteCount
    finalists = export.finalists
  }

  /// The sum of the predicted KL of all layers in four bits: of all, and of those that are quantized.
  public var predictedKL: (allQuantized: Double, asChosen: Double) {
    (
      layers.reduce(0) { $0 + ($1.predictedKL ?? 0) }, layers.reduce(0) { $0 + ($1.isKept ? 0 : $1.predictedKL ?? 0) }
    )
  }

  /// The places of the layers when those that cost most for their bytes come first, from 1.
  private var ranks: [Int] {
    let order = layers.indices.sorted { value(layers[$0]) > value(layers[$1]) }
    var ranks = [Int](repeating: 0, count: layers.count)
    for (rank, index) in order.enumerated() { ranks[index] = rank + 1 }
    return ranks
  }

  private func value(_ layer: LinearLayer) -> Double {
    (layer.predictedKL ?? 0) / Double(max(layer.extraByteCount, 1))
  }

  /// Everything, for programs.
  public var json: JSONValue {
    let ranks = ranks
    func number(_ value: Double?) -> JSONValue { value.map { .number($0) } ?? .null }
    return [
      "model": .string(model), "method": .string(method), "rounding": .string(rounding.rawValue),
      "budget_percent": number(budget), "calibration_tokens": .integer(calibrationTokens),
      "nf4_bytes": .integer(plainByteCount), "bytes": .integer(byteCount),
      "predicted_kl": .number(predictedKL.asChosen), "predicted_kl_all_quantized": .number(predictedKL.allQuantized),
      "finalists": .array(
        finalists.map {
          [
            "kept": .array($0.kept.sorted().map { .string($0) }), "predicted_kl": .number($0.predictedKL),
            "measured_kl": number($0.measuredKL),
          ]
        }),
      "layers": .array(
        zip(layers, ranks).map { layer, rank in
          [
            "name": .string(layer.name), "parameters": .integer(layer.parameterCount),
            "extra_bytes": .integer(layer.extraByteCount), "sensitivity": number(layer.sensitivity),
            "predicted_kl": number(layer.predictedKL), "relative_error": number(layer.relativeError),
            "rank": .integer(rank), "kept": .bool(layer.isKept),
          ]
        }),
    ]
  }

  /// Writes `quantization.json` and `quantization.html` into a folder that is there.
  func write(into folder: String) throws {
    try writeAtomically(json.serialized(pretty: true) + "\n", to: folder + "/quantization.json")
    try writeAtomically(html, to: folder + "/quantization.html")
  }

  // MARK: The page

  private var html: String {
    let names = Array(
      layers.map { String($0.name.split(separator: ".").last ?? "") }.reduce(into: [String]()) {
        if !$0.contains($1) { $0.append($1) }
      })
    let values = layers.compactMap { value($0) > 0 ? value($0) : nil }.sorted()
    let (low, high) = (values.first ?? 1, values.last ?? 1)
    var rows = ""
    let count = (layers.map(\.layer).max() ?? -1) + 1
    for number in 0..<count {
      rows += "<tr><th>\(number)</th>"
      for name in names {
        let cell = layers.first { $0.layer == number && $0.name.hasSuffix("." + name) }
        rows += cell.map { self.cell($0, low: low, high: high) } ?? "<td></td>"
      }
      rows += "</tr>\n"
    }
    let kept = layers.filter(\.isKept)
    let more = Double(byteCount - plainByteCount) / Double(plainByteCount) * 100
    let heads = names.map { "<th>\($0.dropLast($0.hasSuffix("_proj") ? 5 : 0))</th>" }.joined()
    return """
      <!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
      <title>Quantization of \(escaped(model))</title>
      <style>
      body{font:14px system-ui,sans-serif;margin:2em;color:#222}table{border-collapse:separate;border-spacing:2px}
      th{font-weight:normal;color:#666;padding:0 .5em}td{width:5.5em;height:1.5em;text-align:center;font-size:11px}
      td.kept{outline:2px solid #111;font-weight:bold}
      </style>
      <h1>Quantization of \(escaped(model))</h1>
      <p>Method \(method), rounding \(rounding.rawValue), \(calibrationTokens) tokens of calibration.
      \(kept.count) of \(layers.count) layers stay in 16 bits (outlined): \(byteCount) bytes, \(decimal(more, 2))% more
      than all in four bits. Predicted KL \(decimal(predictedKL.asChosen, 4)) nats per token,
      \(decimal(predictedKL.allQuantized, 4)) with all in four bits.\(checked)</p>
      <p>Each cell is a linear layer; its number is the KL, in thousandths of a nat, that quantizing it alone is predicted to
      cost. The darker, the more it costs for its bytes.</p>
      <table><tr><th>layer</th>\(heads)</tr>
      \(rows)</table></html>

      """
  }

  /// What the finalists' true divergences were, as a sentence of the page.
  private var checked: String {
    let found = finalists.compactMap(\.measuredKL).sorted()
    guard let best = found.first, let worst = found.last else { return "" }
    return " Of \(found.count) near choices, measured on text that calibration did not read, this one is the best: "
      + "\(decimal(best, 4)), the others up to \(decimal(worst, 4))."
  }

  private func cell(_ layer: LinearLayer, low: Double, high: Double) -> String {
    var shade = 0.0
    if value(layer) > 0, high > low { shade = (log2(value(layer)) - log2(low)) / (log2(high) - log2(low)) }
    let light = 97 - 52 * shade
    let text = layer.predictedKL.map { decimal(1000 * $0, 2) } ?? ""
    let state = layer.isKept ? "16 bits" : "NF4"
    return "<td\(layer.isKept ? " class=\"kept\"" : "") style=\"background:hsl(14 85% \(decimal(light, 0))%)\" "
      + "title=\"\(layer.name): \(state)\">\(text)</td>"
  }

  private func escaped(_ text: String) -> String {
    text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
  }

  /// A number with so many digits after the point.
  private func decimal(_ value: Double, _ digits: Int) -> String {
    var power = 1.0
    for _ in 0..<digits { power *= 10 }
    guard (value * power).magnitude < 1e15 else { return "\(value)" }
    let scaled = Int((value * power).rounded())
    if digits == 0 { return "\(scaled)" }
    let fraction = String(scaled.magnitude % UInt(power))
    return (scaled < 0 ? "-" : "") + "\(scaled.magnitude / UInt(power))."
      + String(repeating: "0", count: digits - fraction.count) + fraction
  }

  /// The logarithm to base 2, to a part in a thousand: a shade needs no more.
  private func log2(_ value: Double) -> Double {
    Double(value.exponent) + (value.significand - 1) * (1.3465 - 0.3465 * (value.significand - 1))
  }
}
