import ModelFiles

extension Adapter {
  /// What PEFT calls this adapter's configuration; `baseModel` names the model it belongs to.
  public func fileConfiguration(baseModel: String?) -> AdapterConfiguration {
    AdapterConfiguration(
      rank: configuration.rank, alpha: configuration.alpha, dropout: configuration.dropout,
      usesRSLoRA: configuration.useRSLoRA,
      targetModules: TargetModule.allCases.filter { configuration.targetModules.contains($0) }.map(\.rawValue),
      baseModel: baseModel)
  }

  /// Writes `adapter_config.json` and `adapter_model.safetensors` into `folder`, for PEFT and for ``load(_:)``.
  public func save(to folder: String, baseModel: String?) throws {
    let values = try values()
    try values.withUnsafeBufferPointer { values in
      try AdapterFile.save(
        to: folder, configuration: fileConfiguration(baseModel: baseModel),
        tensors: parts.map {
          (name: $0.name, shape: [$0.rows, $0.columns], values: UnsafeBufferPointer(rebasing: values[$0.range]))
        })
    }
  }

  /// Takes over the elements of a PEFT adapter, whose shapes were checked against the model when it was opened.
  public func load(_ file: AdapterFile) throws {
    var values = [Float](repeating: 0, count: count)
    let parts = Dictionary(uniqueKeysWithValues: self.parts.map { ($0.name, $0) })
    try values.withUnsafeMutableBufferPointer { values in
      guard let base = values.baseAddress else { return }
      for pair in file.pairs {
        for stored in [pair.a, pair.b] {
          guard let part = parts[stored.name], stored.shape == [part.rows, part.columns] else {
            throw ModelError("\(file.folder): tensor \(stored.name) \(stored.shape) does not fit this adapter")
          }
          try stored.decode(rows: 0..<part.rows, into: base + part.range.lowerBound)
        }
      }
    }
    try set(values)
    guard try isFinite() else { throw ModelError("\(file.folder): the adapter holds values that are not numbers") }
  }
}

extension LoRAConfiguration {
  /// What a PEFT configuration describes.
  public init(_ file: AdapterConfiguration) throws {
    let modules = try file.targetModules.map { name in
      guard let module = TargetModule(rawValue: name) else {
        throw ModelError("the adapter's target module \(name) is none of a Llama's seven projections")
      }
      return module
    }
    self.init(
      rank: file.rank, alpha: file.alpha, useRSLoRA: file.usesRSLoRA, dropout: file.dropout,
      targetModules: Set(modules))
  }
}

extension LanguageModel {
  /// Opens the PEFT adapter in `folder` and attaches it.
  @discardableResult
  public func loadAdapter(from folder: String, training: Bool = false) throws -> Adapter {
    let file = try AdapterFile.load(folder: folder, for: configuration)
    let adapter = try makeAdapter(try LoRAConfiguration(file.configuration), training: training)
    try adapter.load(file)
    attach(adapter)
    return adapter
  }
}
