import JSONValues

/// A tokenizer that lets through longer texts than the model has positions for.
enum ContextLengthCheck: Check {
  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    if case .gguf(let file) = patient.kind {
      let metadata = file.metadata
      guard let architecture = metadata["general.architecture"]?.string,
        let length = metadata["\(architecture).context_length"]?.integer,
        let original = metadata["\(architecture).rope.scaling.original_context_length"]?.integer,
        let factor = metadata["\(architecture).rope.scaling.factor"]?.double, original > 0, factor >= 1,
        Double(length) > Double(original) * factor * 1.01
      else { return [] }
      return [
        Finding(
          "context-length-disagrees", .warning, message,
          evidence: "\(architecture).context_length is \(length), \(original) positions scaled by \(factor) are fewer",
          repair: "Use at most \(Int(Double(original) * factor)) tokens.")
      ]
    }
    let name = "tokenizer_config.json"
    guard let value = patient.value(name, "model_max_length"), !value.isNull else { return [] }
    // Python writes int(1e30) where nobody has set a length.
    guard let length = value.integer, length < 1_000_000_000 else {
      if let number = value.double, number >= 1e9 { return [] }
      return [
        Finding(
          "context-length-disagrees", .warning, "The tokenizer's greatest length is no number of tokens.",
          evidence: "\(name): model_max_length is \(value.kind)", repair: "Write a whole number.")
      ]
    }
    let config = patient.files["config.json"]?.value
    let text = config?["text_config"]
    guard
      let positions = (config?["max_position_embeddings"] ?? text?["max_position_embeddings"])?.integer, positions > 0
    else { return [] }
    let scaling = config?["rope_scaling"] ?? config?["rope_parameters"] ?? text?["rope_scaling"]
    let factor = max(1, scaling?["factor"]?.double ?? 1)
    let original = (scaling?["original_max_position_embeddings"] ?? config?["original_max_position_embeddings"])?
      .integer
    // Some configurations count positions before scaling, most of them after.
    let reach = max(Double(positions), Double(original ?? positions) * factor)
    guard Double(length) > reach else { return [] }
    return [
      Finding(
        "context-length-disagrees", .warning, message,
        evidence: "\(name): model_max_length is \(length), config.json: max_position_embeddings is \(positions)"
          + (factor > 1 ? " (scaled by \(factor))" : ""),
        repair: "Make model_max_length \(positions).",
        edits: [.set(file: name, path: ["model_max_length"], .integer(positions))])
    ]
  }

  private static let message =
    "Texts longer than the model's trained positions are let through, where its answers fall apart."
}
