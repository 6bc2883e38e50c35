import ModelFiles

extension TrainingConfiguration {
  /// This configuration with the shape of an adapter that the run goes on from.
  ///
  /// - Parameters:
  ///   - source: The adapter's folder, for messages.
  ///   - chosen: Options that were given: where they ask for another shape, this throws. What differs from the default was
  ///     given in any case.
  public func continuing(
    _ adapter: AdapterSum, from source: String, chosen: Set<String> = []
  ) throws(TrainingConfigurationError) -> TrainingConfiguration {
    var result = self
    result.loraRank = adapter.configuration.rank
    result.loraAlpha = adapter.configuration.alpha
    result.useRSLoRA = adapter.configuration.usesRSLoRA
    result.useDoRA = adapter.configuration.usesDoRA
    result.targetModules = adapter.modules.map(\.rawValue)
    var (own, theirs, defaults) = (self, result, TrainingConfiguration())
    own.targetModules.sort()
    theirs.targetModules.sort()
    defaults.targetModules.sort()
    for name in ["lora-rank", "lora-alpha", "use-rslora", "use-dora", "target-modules"] {
      guard let option = TrainingOption.named(name) else { continue }
      let (wanted, found) = (option.text(in: own), option.text(in: theirs))
      guard wanted != found, chosen.contains(name) || wanted != option.text(in: defaults) else { continue }
      throw TrainingConfigurationError(
        option: name,
        reason:
          "\(wanted ?? "not set"), but the adapter in \(source) has \(found ?? "none"); leave it out to go on from it")
    }
    return try result.validated()
  }
}
