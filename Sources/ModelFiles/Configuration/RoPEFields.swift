import JSONValues

/// The rotary settings, which are spread over the configuration or gathered under `rope_parameters` (transformers 5).
struct RoPEFields {
  let outer: ConfigurationFields
  let inner: ConfigurationFields?
  let theta: Double
  let partialRotaryFactor: Double
  private let family: ModelFamily
  private let type: String

  init(_ fields: ConfigurationFields, _ family: ModelFamily) throws(ModelFileError) {
    outer = fields
    self.family = family
    var found: ConfigurationFields?
    for key in ["rope_scaling", "rope_parameters"] where found == nil {
      guard let value = fields[key] else { continue }
      guard let object = value.object else { throw fields.wrong(key, value, "an object") }
      if !object.isEmpty { found = ConfigurationFields(json: value, path: fields.path) }
    }
    inner = found
    if let inner, let nested = inner.json.object?.first(where: { $0.value.object != nil }) {
      throw ModelFileError(
        fields.path, "the rotary settings differ between layers (\(quoted(nested.key))), which is not supported")
    }
    let (outerTheta, outerPart) = (try fields.number("rope_theta"), try fields.number("partial_rotary_factor"))
    theta = try inner?.number("rope_theta") ?? outerTheta ?? family.ropeTheta
    let value = inner?["rope_type"] ?? inner?["type"] ?? "default"
    guard let name = value.string else { throw fields.wrong("rope_type", value, "a name") }
    // Older files of Phi-3 say "su" and "yarn", and mean longrope; transformers takes them so.
    type = name == "su" || (name == "yarn" && family.rotatesPartially) ? "longrope" : name
    let part = try inner?.number("partial_rotary_factor") ?? outerPart ?? 1
    if family.rotatesPartially {
      partialRotaryFactor = part
    } else {
      // The plain rotation of the other architectures takes no notice of it; with a scaling it could not be computed.
      partialRotaryFactor = 1
      if type != "default", part != 1 {
        throw ModelFileError(
          fields.path,
          "partial_rotary_factor is \(part) beside a rotary scaling, which \(family.architecture) cannot compute")
      }
    }
  }

  func scaling(contextLength: Int) throws(ModelFileError) -> RoPEScaling {
    guard let inner else { return .none }
    if family.rotatesPartially, type != "default", type != "longrope" {
      throw inner.wrong("rope_type", .string(type), "default or longrope")
    }
    switch type {
    case "default": return .none
    case "linear": return .linear(factor: try factor("factor"))
    case "dynamic": return .dynamic(factor: try factor("factor"))
    case "llama3":
      return .llama3(
        factor: try factor("factor"), lowFrequencyFactor: try factor("low_freq_factor"),
        highFrequencyFactor: try factor("high_freq_factor"),
        originalContextLength: try originalLength(contextLength))
    case "longrope":
      let original = try originalLength(contextLength)
      let named = try inner.number("attention_factor")
      let factor = try inner.number("factor") ?? Double(contextLength) / Double(original)
      return .longRoPE(
        shortFactors: try factors("short_factor"), longFactors: try factors("long_factor"),
        originalContextLength: original,
        attentionFactor: named
          ?? ModelConfiguration.longRoPEAttentionFactor(factor: factor, originalContextLength: original))
    case "yarn":
      let original = try originalLength(contextLength)
      let factor = try inner.number("factor") ?? Double(contextLength) / Double(original)
      let (mscale, mscaleAllDim) = (try inner.number("mscale"), try inner.number("mscale_all_dim"))
      return .yarn(
        factor: factor, originalContextLength: original, betaFast: try inner.number("beta_fast") ?? 32,
        betaSlow: try inner.number("beta_slow") ?? 1, truncates: try inner.flag("truncate") ?? true,
        attentionFactor: try inner.number("attention_factor")
          ?? ModelConfiguration.yarnAttentionFactor(factor: factor, mscale: mscale, mscaleAllDim: mscaleAllDim))
    default:
      throw inner.wrong("rope_type", .string(type), "default, linear, dynamic, llama3, longrope or yarn")
    }
  }

  /// The length that the scaling starts from; outside the rotary settings it counts before that inside.
  private func originalLength(_ contextLength: Int) throws(ModelFileError) -> Int {
    let key = "original_max_position_embeddings"
    // Phi-3's class has it as a field of its own.
    if family.rotatesPartially { return try outer.size(key, default: 4096) }
    if try outer.has(key) { return try outer.size(key) }
    return try inner?.size(key, default: contextLength) ?? contextLength
  }

  private func factor(_ key: String) throws(ModelFileError) -> Double {
    guard let value = try inner?.number(key) else {
      throw ModelFileError(outer.path, "the rotary scaling has no '\(key)'")
    }
    return value
  }

  private func factors(_ key: String) throws(ModelFileError) -> [Double] {
    guard let values = try inner?.numbers(key) else {
      throw ModelFileError(outer.path, "the rotary scaling has no '\(key)'")
    }
    return values
  }
}
