import JSONValues
import ModelFiles
import Models
import Tensors

extension DeviceRates {
  /// What is known of `device` for heads, and on a processor for matrices, as the model's: measured at the first question, some
  /// seconds, and kept in a file.
  /// - Parameter again: measured anew, whatever is known: other work may have disturbed what was measured before.
  public static func known(
    on device: any Device, for configuration: ModelConfiguration, again: Bool = false
  ) throws -> DeviceRates {
    let heads = AttentionShape(
      heads: configuration.headCount, keyValueHeads: configuration.keyValueHeadCount,
      headDimension: configuration.headDimension)
    let matrix = (outputs: configuration.intermediateSize, inputs: configuration.hiddenSize)
    var key = "\(device.description), \(heads.heads)/\(heads.keyValueHeads) heads of \(heads.headDimension)"
    if device.memory == nil { key += ", \(matrix.inputs) to \(matrix.outputs)" }
    let path = cacheFolder.map { $0 + "/rates.json" }
    // A file that cannot be read or written is as good as none.
    var known = path.flatMap { try? readJSON($0) }?.object ?? JSONObject()
    if !again, let values = known[key], let rates = DeviceRates(values), rates.lowRank != nil || device.memory != nil {
      return rates
    }
    let rates = try measured(on: device, heads: heads, matrix: matrix)
    known[key] = rates.json
    if let path { try? writeAtomically(JSONValue.object(known).serialized() + "\n", to: path) }
    return rates
  }

  private init?(_ json: JSONValue) {
    func value(_ key: String) -> Double? { json[key]?.double.flatMap { $0.isFinite && $0 > 0 ? $0 : nil } }
    guard let products = value("products"), let shortContext = value("short_context"),
      let short = value("attention_short"), let longContext = value("long_context"), let long = value("attention_long"),
      let shortBackward = value("attention_backward_short"), let longBackward = value("attention_backward_long"),
      let elements = value("elements"), let host = value("host")
    else { return nil }
    self.init(
      products: products, shortContext: shortContext, shortAttention: short, longContext: longContext,
      longAttention: long, shortAttentionBackward: shortBackward, longAttentionBackward: longBackward,
      elements: elements, host: host)
    opening = value("opening")
    lowRank = value("low_rank")
  }

  /// As the file has them.
  package var json: JSONValue {
    var object: JSONObject = [
      "products": .number(products), "short_context": .number(shortContext), "attention_short": .number(shortAttention),
      "long_context": .number(longContext), "attention_long": .number(longAttention),
      "attention_backward_short": .number(shortAttentionBackward),
      "attention_backward_long": .number(longAttentionBackward), "elements": .number(elements), "host": .number(host),
    ]
    object["opening"] = opening.map { .number($0) }
    object["low_rank"] = lowRank.map { .number($0) }
    return .object(object)
  }
}
