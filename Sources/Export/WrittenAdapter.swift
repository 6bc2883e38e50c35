import ModelFiles

/// A sum of adapters as the tensors of one in PEFT's layout, for a Llama's matrices or for a Phi-3's fused ones.
struct WrittenAdapter {
  var configuration: AdapterConfiguration
  private var tensors: [(name: String, shape: [Int], values: [Float])] = []

  /// Norms of the rows of W, which are the magnitudes of a projection that DoRA leaves alone.
  typealias RowNorms = (_ layer: Int, _ module: TargetModule) throws -> [Float]

  private let rowNorms: RowNorms

  /// - Parameters:
  ///   - layerCount: Layers of the model where they are known: an adapter of all of them need not list them.
  ///   - rowNorms: Asked where a projection without an adapter lies in one matrix or layer with others that have DoRA's.
  init(
    _ sum: AdapterSum, layerCount: Int?, in layout: Conversion.Layout, rowNorms: @escaping RowNorms
  ) throws {
    configuration = sum.configuration
    self.rowNorms = rowNorms
    if sum.layers.count == layerCount {
      configuration.layers = nil
    } else if layerCount != nil || configuration.layers != nil {
      configuration.layers = sum.layers
    }
    let groups =
      layout == .llama
      ? []
      : FusedTensors.parts.filter { group in group.modules.contains { sum.modules.contains($0) } }
    let fused = groups.flatMap(\.modules)
    for module in sum.modules where !fused.contains(module) {
      for layer in sum.layers {
        let (a, b) = try Self.pair(sum, layer, module)
        add(module.path(layer: layer), rank: sum.configuration.rank, a, b)
        try addMagnitudes(module.path(layer: layer), layer, [module], sum)
      }
    }
    if !groups.isEmpty {
      configuration.targetModules = sum.modules.filter { !fused.contains($0) }.map(\.rawValue) + groups.map(\.name)
      (configuration.alpha, configuration.usesRSLoRA) = (
        sum.configuration.scale * Double(sum.configuration.rank), false
      )
    }
    for group in groups { try addFused(group.name, group.modules, sum) }
  }

  /// Puts the pairs of several projections together: ranks one behind the other, B in blocks; one A where all share it.
  private mutating func addFused(_ name: String, _ modules: [TargetModule], _ sum: AdapterSum) throws {
    let rank = sum.configuration.rank
    let present = modules.filter { sum.modules.contains($0) }
    let layers = try sum.layers.map { layer in
      (layer: layer, pairs: try modules.map { try present.contains($0) ? Self.pair(sum, layer, $0) : nil })
    }
    let isShared = layers.allSatisfy { _, pairs in
      pairs.allSatisfy { $0 != nil && $0?.a == pairs.first??.a }
    }
    let width = isShared ? rank : rank * present.count
    for (layer, pairs) in layers {
      let inputs = (pairs.compactMap { $0 }.first?.a.count ?? 0) / rank
      var (a, b): ([Float], [Float]) = ([], [])
      var column = 0
      for (module, pair) in zip(modules, pairs) {
        let outputs = try pair.map { $0.b.count / rank } ?? Self.outputs(of: module, sum)
        var block = [Float](repeating: 0, count: outputs * width)
        if let pair {
          if !isShared || a.isEmpty { a += pair.a }
          for row in 0..<outputs {
            block.replaceSubrange(
              row * width + column..<row * width + column + rank, with: pair.b[row * rank..<(row + 1) * rank])
          }
          if !isShared { column += rank }
        }
        b += block
      }
      guard a.count == width * inputs else { throw ModelFileError(name, "the adapters of its parts differ in width") }
      let path = "model.layers.\(layer).\(modules[0].parent).\(name)"
      add(path, rank: width, a, b)
      try addMagnitudes(path, layer, modules, sum)
    }
    guard width != rank else { return }
    configuration.rankPattern.entries.append((name, width))
    configuration.alphaPattern.entries.append((name, sum.configuration.scale * Double(width)))
  }

  private mutating func add(_ path: String, rank: Int, _ a: [Float], _ b: [Float]) {
    tensors.append((AdapterFile.tensorName(path: path, isB: false), [rank, a.count / rank], a))
    tensors.append((AdapterFile.tensorName(path: path, isB: true), [b.count / rank, rank], b))
  }

  /// Adds DoRA's magnitudes of the projections in one matrix, one behind the other.
  private mutating func addMagnitudes(
    _ path: String, _ layer: Int, _ modules: [TargetModule], _ sum: AdapterSum
  ) throws {
    guard configuration.usesDoRA else { return }
    let magnitudes = try modules.flatMap { try sum.magnitudes(layer: layer, module: $0) ?? rowNorms(layer, $0) }
    tensors.append((AdapterFile.magnitudeName(path: path), [magnitudes.count], magnitudes))
  }

  /// A pair; zeros in a layer that has none where others have one.
  private static func pair(
    _ sum: AdapterSum, _ layer: Int, _ module: TargetModule
  ) throws -> (a: [Float], b: [Float]) {
    if let pair = try sum.decode(layer: layer, module: module) { return pair }
    for other in sum.layers {
      guard let (a, b) = try sum.decode(layer: other, module: module) else { continue }
      return ([Float](repeating: 0, count: a.count), [Float](repeating: 0, count: b.count))
    }
    return ([], [])
  }

  /// Output features of a projection without an adapter beside others that have one.
  private static func outputs(of module: TargetModule, _ sum: AdapterSum) throws(ModelFileError) -> Int {
    guard let model = sum.files.first?.model else {
      throw ModelFileError("adapter", "a fused adapter can only be written for a model that is known")
    }
    return model.size(of: module).outputs
  }

  /// Writes the two files.
  func save(to folder: String) throws {
    let flat = UnsafeMutableBufferPointer<Float>.allocate(capacity: max(1, tensors.reduce(0) { $0 + $1.values.count }))
    defer { flat.deallocate() }
    var start = 0
    let views = tensors.map { name, shape, values in
      let slice = UnsafeMutableBufferPointer(rebasing: flat[start..<start + values.count])
      _ = slice.initialize(from: values)
      start += values.count
      return (name: name, shape: shape, values: UnsafeBufferPointer(slice))
    }
    try AdapterFile.save(to: folder, configuration: configuration, tensors: views)
  }
}
