import Tensors

/// What the halves of a dropped input need where a magnitude scales its projection, over `T` tokens.
///
/// Such a projection is y = W·(x - x̃) + f∘(W·x̃ + s·B·A·x̃), x̃ being x with elements dropped: PEFT's W·x + (f - 1)∘(W·x̃)
/// + f∘(s·B·A·x̃). Without dropout the halves are x and nothing, and y is f∘(W·x + s·B·A·x).
struct DroppedHalves {
  /// x̃ and x - x̃: compute `[T, widest input]`.
  var kept: Tensor
  var rest: Tensor
  /// Their gradients: fp32 `[T, widest input]`.
  var keptGradient: Tensor
  var restGradient: Tensor
}

// DoRA: linear layers whose outputs magnitudes scale.
extension Block {
  /// `device.linear` of modules that read the same x, the columns of those with a magnitude scaled by it.
  func project(
    _ x: Tensor, _ modules: [TargetModule], into outputs: [Tensor], _ memory: BlockMemory, accumulate: Bool = false,
    dropout: DropoutKey?, on device: any Device
  ) throws {
    let projections = modules.map { self[$0] }
    // An adapter may be taken away for a while: its room then stands empty.
    let unscaled = modules.map { hasMagnitude($0) ? memory.unscaled[$0] : nil }
    guard unscaled.contains(where: { $0 != nil }) else {
      return try device.linear(
        x, projections, into: outputs, lowRank: memory.lowRank(modules), accumulate: accumulate, dropout: dropout)
    }
    if let key = dropped(modules, dropout), let halves = memory.halves {
      for (module, output) in zip(modules, outputs) {
        guard hasMagnitude(module), let pair = self[module].lowRank, let z = memory.unscaled[module] else {
          try device.linear(
            x, [self[module]], into: [output], lowRank: [nil], accumulate: accumulate, dropout: nil)
          continue
        }
        try scaleKept(x, module, pair, into: z, memory, key, on: device)
        try device.linear(
          halves.rest.columns(0..<x.columns), [Projection(self[module].matrix)], into: [output], lowRank: [nil],
          accumulate: accumulate, dropout: nil)
      }
    } else {
      // A group that adds to its output has one module.
      try device.linear(
        x, projections, into: zip(unscaled, outputs).map { $0 ?? $1 }, lowRank: memory.lowRank(modules),
        accumulate: false, dropout: dropout)
    }
    let isAdded = accumulate || dropped(modules, dropout) != nil
    for (index, projection) in projections.enumerated() {
      guard let magnitude = projection.lowRank?.magnitude, let z = unscaled[index] else { continue }
      try device.scaleColumns(z, by: magnitude.factors, into: outputs[index], accumulate: isAdded)
    }
  }

  /// What a module's magnitude scales, once more, from what it reads.
  func unscaledAgain(
    _ x: Tensor, _ module: TargetModule, _ memory: BlockMemory, dropout: DropoutKey?, on device: any Device
  ) throws {
    guard let pair = self[module].lowRank, let z = memory.unscaled[module] else { return }
    if let key = dropped([module], dropout) {
      try scaleKept(x, module, pair, into: z, memory, key, on: device)
    } else {
      try device.linear(
        x, [self[module]], into: [z], lowRank: memory.lowRank([module]), accumulate: false, dropout: nil)
    }
  }

  /// z = W·x̃ + s·B·A·x̃; leaves x̃ and x - x̃ in their halves.
  private func scaleKept(
    _ x: Tensor, _ module: TargetModule, _ pair: LowRankPair, into z: Tensor, _ memory: BlockMemory,
    _ key: DropoutKey, on device: any Device
  ) throws {
    guard let halves = memory.halves else { throw ModelError("a dropped input was not planned for") }
    let kept = halves.kept.columns(0..<x.columns)
    try device.splitDropout(x, pair, key, kept: kept, rest: halves.rest.columns(0..<x.columns))
    try device.linear(
      kept, [self[module]], into: [z], lowRank: memory.lowRank([module]), accumulate: false, dropout: nil)
  }

  /// `device.linearBackward` of modules that read the same x, through their magnitudes, whose own gradients are added to.
  ///
  /// `gradients`, of the modules' outputs, become those of what the magnitudes scale.
  func projectBackward(
    _ gradients: [Tensor], _ modules: [TargetModule], _ memory: BlockMemory, lowRankGradients: [Tensor?],
    into dx: Tensor?, dropout: DropoutKey?, on device: any Device
  ) throws {
    guard let key = dropped(modules, dropout), let halves = memory.halves else {
      for (gradient, module) in zip(gradients, modules) { try unscale(gradient, module, memory, on: device) }
      return try device.linearBackward(
        gradients, modules.map { self[$0] }, lowRank: memory.lowRank(modules), lowRankGradients: lowRankGradients,
        into: dx, dropout: dropout)
    }
    let bare = modules.indices.filter { !hasMagnitude(modules[$0]) }
    if let dx, !bare.isEmpty {
      let none = [Tensor?](repeating: nil, count: bare.count)
      try device.linearBackward(
        bare.map { gradients[$0] }, bare.map { self[modules[$0]] }, lowRank: none, lowRankGradients: none, into: dx,
        dropout: nil)
    }
    var isAssigned = !bare.isEmpty
    for (index, module) in modules.enumerated() {
      guard hasMagnitude(module), let pair = self[module].lowRank else { continue }
      let kept = dx.map { halves.keptGradient.columns(0..<$0.columns) }
      let rest = dx.map { halves.restGradient.columns(0..<$0.columns) }
      if let rest {
        try device.linearBackward(
          [gradients[index]], [Projection(self[module].matrix)], lowRank: [nil], lowRankGradients: [nil], into: rest,
          dropout: nil)
      }
      try unscale(gradients[index], module, memory, on: device)
      try device.linearBackward(
        [gradients[index]], [self[module]], lowRank: memory.lowRank([module]),
        lowRankGradients: [lowRankGradients[index]], into: kept, dropout: nil)
      if let dx, let kept, let rest {
        try device.joinDropout(kept: kept, rest: rest, pair, key, into: dx, accumulate: isAssigned)
        isAssigned = true
      }
    }
  }

  /// Turns the gradient of a module's output into that of what its magnitude scales, in place, and adds to the magnitude's
  /// own.
  func unscale(_ gradient: Tensor, _ module: TargetModule, _ memory: BlockMemory, on device: any Device) throws {
    guard let magnitude = self[module].lowRank?.magnitude, let z = memory.unscaled[module] else { return }
    if let sums = magnitude.gradient {
      try device.addColumnSums(of: gradient, times: z, rowScales: nil, to: sums)
    }
    try device.scaleColumns(gradient, by: magnitude.factors, into: gradient, accumulate: false)
  }

  /// Whether a module's output is scaled by a magnitude.
  func hasMagnitude(_ module: TargetModule) -> Bool { self[module].lowRank?.magnitude != nil }

  /// The key of the dropout before modules with magnitudes; nil where nothing is dropped, or scaled.
  func dropped(_ modules: [TargetModule], _ dropout: DropoutKey?) -> DropoutKey? {
    modules.contains { hasMagnitude($0) && (self[$0].lowRank?.dropout ?? 0) > 0 } ? dropout : nil
  }
}
