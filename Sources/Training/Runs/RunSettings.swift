/// What decides the numbers of a run, as names and values: a run may only be resumed with the same.
public struct RunSettings: Sendable, Equatable {
  /// One name with its value.
  public struct Entry: Sendable, Equatable {
    /// The option's name.
    public var name: String
    /// Its value in words.
    public var value: String
  }

  /// The names and values in their order.
  public private(set) var entries: [Entry]

  /// Settings from names and values.
  public init(_ entries: [Entry] = []) { self.entries = entries }

  /// The settings of a configuration.
  ///
  /// Left out is what may change on resume: where things lie and how often the run logs and saves, threads, memory and
  /// what is recomputed. `data` stands for the training data's content: `TokenizedDataset.fingerprint`.
  public init(_ configuration: TrainingConfiguration, data: String) {
    let free: Set<String> = [
      "data", "threads", "memory", "recompute", "strict", "data-cache", "max-skipped-steps",
    ]
    entries = TrainingOption.all.filter { $0.group != .run && !free.contains($0.name) }
      .map { Entry(name: $0.name, value: $0.text(in: configuration) ?? "not set") }
    self["data"] = data
  }

  /// The value of a name.
  public subscript(_ name: String) -> String? {
    get { entries.first { $0.name == name }?.value }
    set {
      entries.removeAll { $0.name == name }
      if let newValue { entries.append(Entry(name: name, value: newValue)) }
    }
  }

  /// What differs from the settings that a run began with, one phrase for each name.
  public func differences(from earlier: RunSettings) -> [String] {
    let added = entries.filter { entry in !earlier.entries.contains { $0.name == entry.name } }
    let changed = earlier.entries.filter { self[$0.name] != $0.value }
    return changed.map { "\($0.name) was \($0.value) and is \(self[$0.name] ?? "not set")" }
      + added.map { "\($0.name) was not set and is \($0.value)" }
  }

  /// Refuses to go on with other settings than a run began with.
  public func requireSame(as earlier: RunSettings, in path: String) throws(RunError) {
    let differences = differences(from: earlier)
    if differences.isEmpty { return }
    throw RunError(
      path,
      "the run cannot be resumed with other settings: \(differences.joined(separator: "; ")); restore them, or "
        + "start a new run in another --output")
  }
}
