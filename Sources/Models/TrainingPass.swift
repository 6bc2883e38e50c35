import Tensors

/// The memory of forward and backward passes over batches of up to `capacity` tokens, and the passes themselves.
///
/// All of it is one arena, planned before anything is allocated. A layer has places of its own for what it keeps; what layers
/// compute again lies in a set of places that they share.
final class TrainingPass {
  /// The most tokens of a batch.
  let capacity: Int
  let plan: ActivationPlan
  let layout: Layout
  let arena: Arena
  /// Where the memory of layers lies that do not keep it on the device.
  let hostStore: (any HostStore)?
  /// Attention's workspace for batches of so many short documents that the planned one is too small.
  private var largeWorkspace: Tensor?
  unowned let model: LanguageModel
  var device: any Device { model.device }

  init(_ model: LanguageModel, capacity: Int, _ plan: ActivationPlan) throws {
    self.model = model
    self.plan = plan
    let made = Self.plan(
      Extent(
        shape: model.shape, adapter: model.adapter?.configuration, isLearning: model.isLearning, capacity: capacity,
        plan: plan), on: model.device)
    self.capacity = made.layout.capacity
    layout = made.layout
    arena = try Arena(made.arena, on: model.device)
    let places = made.layout.hostPlaces
    hostStore = places.isEmpty ? nil : try model.device.makeHostStore(places: places)
  }

  /// Where everything will lie.
  static func plan(_ extent: Extent, on device: any Device) -> (layout: Layout, arena: ArenaPlan) {
    var arena = ArenaPlan()
    let layout = Layout(extent, device, in: &arena)
    return (layout, arena)
  }

  // MARK: Passes

  /// What the gradient of a batch's losses is multiplied by.
  enum LossScales {
    /// Every trained token counts alike.
    case uniform(Float)
    /// Each document as the losses of all say.
    case byDocument(([Double]) -> [Float])
  }

  /// See ``LanguageModel/forwardBackward(_:lossScale:dropout:noise:)``.
  func forwardBackward(
    _ batch: PackedBatch, scales: LossScales, dropout: DropoutKey?, noise: EmbeddingNoise?
  ) throws -> Double {
    guard model.isLearning else { throw ModelError("nothing to train: no adapter is attached") }
    return try run(batch, scales: scales, dropout: dropout, noise: noise, observer: nil)
  }

  /// See ``LanguageModel/observeBackward(_:_:)``.
  func observeBackward(_ batch: PackedBatch, _ observer: BackwardObserver) throws {
    _ = try run(batch, scales: .uniform(1), dropout: nil, noise: nil, observer: observer)
  }

  private func run(
    _ batch: PackedBatch, scales: LossScales, dropout: DropoutKey?, noise: EmbeddingNoise?,
    observer: BackwardObserver?
  ) throws -> Double {
    let documents = batch.documents
    let batch = batch.aligned(to: device.rowAlignment)
    let rows = batch.tokens.count
    var context = try context(for: batch, dropout: dropout)
    if observer != nil { context.tile = nil }
    let x = arena[layout.x, rows: rows]
    try model.embed(batch.tokens, into: x)
    try noise?.add(to: x, documents, on: device)
    if let groups = layout.groups { try forward(groups, x, context) } else { try forward(x, context) }
    let loss = try head(batch, x, documents, scales, draw: observer?.draw)
    let gradients = gradients(rows, workspace: try workspace(for: context))
    let observing = { (layer: Int) in observer.map { observer in { try observer.observe(layer, $0, $1, $2) } } }
    if let groups = layout.groups {
      try backward(groups, gradients, context, lowest: observer?.lowestLayer ?? 0, observing: observing)
    } else {
      try backward(gradients, context, lowest: observer?.lowestLayer ?? 0, observing: observing)
    }
    if let table = try model.full?.gradient(FullParameters.embeddingName) {
      try device.scatterAdd(gradients.dx, to: table, rows: batch.tokens)
    }
    return loss
  }

  /// See ``LanguageModel/evaluate(_:tokenLosses:)``.
  ///
  /// `rowLogits` receives the trained rows' logits as they are made.
  func evaluate(
    _ batch: PackedBatch, rowLogits: ((Tensor) throws -> Void)? = nil, tokenLosses: ((ArraySlice<Float>) -> Void)?
  ) throws -> Double {
    let (x, tiles) = try forward(batch)
    return try tiles.reduce(0) { sum, tile in
      let normed = try finalNorm(x.rows(tile))
      return try sum
        + losses(of: trainedRows(batch, tile), batch, normed, tile, scale: nil, rowLogits: rowLogits, tokenLosses)
    }
  }

  /// See ``LanguageModel/documentLosses(_:)``.
  func documentLosses(_ batch: PackedBatch) throws -> [Double] {
    let (x, tiles) = try forward(batch)
    return try documentLosses(batch, x, batch.documents, tiles)
  }

  /// The forward pass alone: the residual stream, and the tiles in which the head may take the batch's own rows.
  private func forward(_ batch: PackedBatch) throws -> (x: Tensor, tiles: [Range<Int>]) {
    let own = batch.tokens.count
    let batch = batch.aligned(to: device.rowAlignment)
    let rows = batch.tokens.count
    let context = try context(for: batch, dropout: nil)
    let x = arena[layout.x, rows: rows]
    try model.embed(batch.tokens, into: x)
    for block in model.blocks {
      // Nothing is kept: every layer may use the last one's memory.
      try block.forward(
        x, memory(model.blocks.count - 1, rows), normed: scratch(layout.normed, rows),
        activation: scratch(layout.activation, rows), context, on: device)
    }
    return (x, context.tiles(of: rows).map { $0.clamped(to: 0..<own) }.filter { !$0.isEmpty })
  }

  private func finalNorm(_ x: Tensor) throws -> Tensor {
    let normed = arena[layout.normed, rows: x.rows]
    try device.rmsNorm(
      x, model.finalNorm, epsilon: Float(model.configuration.rmsNormEpsilon), into: normed,
      rstd: arena[layout.headRstd].columns(0..<x.rows), saved: arena[layout.headSaved, rows: x.rows])
    return normed
  }

  /// The summed loss of each document.
  private func documentLosses(
    _ batch: PackedBatch, _ x: Tensor, _ documents: [Range<Int>], _ tiles: [Range<Int>]
  ) throws -> [Double] {
    var sums = [Double](repeating: 0, count: documents.count)
    for tile in tiles {
      let normed = try finalNorm(x.rows(tile))
      for (index, document) in documents.enumerated() where document.overlaps(tile) {
        sums[index] += try losses(
          of: trainedRows(batch, document.clamped(to: tile)), batch, normed, tile, scale: nil, nil)
      }
    }
    return sums
  }

  /// The final norm, the head and the cross-entropy of the trained rows.
  ///
  /// Leaves the residual stream's gradient in its place for the blocks. `draw` chooses other targets than the batch's.
  private func head(
    _ batch: PackedBatch, _ x: Tensor, _ documents: [Range<Int>], _ scales: LossScales,
    draw: ((Tensor) throws -> [Int32])? = nil
  ) throws -> Double {
    let rows = batch.tokens.count
    let tiles = draw == nil ? layout.tiles(rows) : [0..<rows]
    var loss = 0.0
    var parts: [(rows: Range<Int>, scale: Float)] = []
    switch scales {
    case .uniform(let scale): parts = [(0..<rows, scale)]
    case .byDocument(let weigh):
      // What a document counts depends on all losses: they are computed first, and the head a second time.
      let found = try documentLosses(batch, x, documents, tiles)
      parts = Array(zip(documents, weigh(found)))
      loss = found.reduce(0, +)
    }
    for tile in tiles {
      let normed = try finalNorm(x.rows(tile))
      let saved = arena[layout.headSaved, rows: tile.count]
      let rstd = arena[layout.headRstd].columns(0..<tile.count)
      let dNormed = arena[layout.dNormed, rows: tile.count]
      try device.zero(dNormed)
      for part in parts where part.scale != 0 && part.rows.overlaps(tile) {
        let found = try losses(
          of: trainedRows(batch, part.rows.clamped(to: tile)), batch, normed, tile, scale: part.scale, draw: draw, nil)
        if case .uniform = scales { loss += found }
      }
      if let gradient = try model.full?.gradient(FullParameters.finalNormName) {
        try device.addColumnSums(of: dNormed, times: saved, rowScales: rstd, to: gradient)
      }
      // The residual stream of these rows is not read any more: their gradient takes its place.
      let dx = x.rows(tile)
      try device.zero(dx)
      try device.rmsNormBackward(
        dNormed, saved: saved, rstd: rstd, model.finalNorm, addingTo: dx,
        copy: tiles.count == 1 ? arena[layout.dxOperand, rows: rows] : nil)
    }
    return loss
  }

  private func trainedRows(_ batch: PackedBatch, _ rows: Range<Int>) -> [Int32] {
    rows.filter { batch.targets[$0] >= 0 }.map { Int32($0) }
  }

  /// The summed loss of rows of a tile, whose final norm is `normed`, `headRows` of them at a time, so that logits never
  /// exist whole; with a `scale`, their gradient goes into the place of the final norm's output's.
  private func losses(
    of trained: [Int32], _ batch: PackedBatch, _ normed: Tensor, _ tile: Range<Int>, scale: Float?,
    draw: ((Tensor) throws -> [Int32])? = nil, rowLogits: ((Tensor) throws -> Void)? = nil,
    _ tokenLosses: ((ArraySlice<Float>) -> Void)?
  ) throws -> Double {
    let headGradient = scale == nil ? nil : try model.full?.gradient(model.headName)
    var loss = 0.0
    for start in stride(from: 0, to: trained.count, by: layout.headRows) {
      let chunk = Array(trained[start..<min(start + layout.headRows, trained.count)])
      var targets = chunk.map { batch.targets[Int($0)] }
      if let bad = targets.first(where: { Int($0) >= model.shape.vocabulary }) {
        throw ModelError("token \(bad) lies outside the model's vocabulary of \(model.shape.vocabulary)")
      }
      // Products of whole rows of the device's alignment; what the rows past the chunk hold concerns nobody.
      let aligned = (chunk.count + device.rowAlignment - 1) / device.rowAlignment * device.rowAlignment
      let input = arena[layout.headInput, rows: aligned]
      let logits = arena[layout.logits, rows: chunk.count]
      let rows = chunk.map { $0 - Int32(tile.lowerBound) }
      try device.gather(normed, rows: rows, to: input)
      try device.logits(input, model.head, into: arena[layout.logits, rows: aligned])
      if let draw { targets = try draw(logits) }
      try rowLogits?(logits)
      if let scale {
        let gradient = arena[layout.logitsGradient, rows: chunk.count]
        loss += try device.crossEntropy(logits, targets: targets, scale: scale, gradient: gradient, rowLosses: nil)
        if let headGradient {
          try device.addWeightGradient(gradient, input.prefix(chunk.count), to: headGradient)
        }
        let dInput = arena[layout.headInputGradient, rows: aligned]
        try device.logitsBackward(arena[layout.logitsGradient, rows: aligned], model.head, into: dInput)
        try device.scatter(dInput, to: arena[layout.dNormed, rows: normed.rows], rows: rows)
      } else {
        var losses = [Float](repeating: 0, count: chunk.count)
        loss += try losses.withUnsafeMutableBufferPointer {
          try device.crossEntropy(logits, targets: targets, scale: 1, gradient: nil, rowLosses: $0.baseAddress)
        }
        tokenLosses?(losses[...])
      }
    }
    return loss
  }

  // MARK: Views

  private func context(for batch: PackedBatch, dropout: DropoutKey?) throws -> BlockContext {
    try model.context(
      positions: batch.positions, spans: batch.documents.map { AttentionSpan(queries: $0, keys: $0) },
      longest: batch.documents.map(\.count).max() ?? 1, dropout: dropout, tile: layout.tile)
  }

  /// The tensor at `slot`, of a batch of `rows` rows: all of them, or those of a tile.
  func scratch(_ slot: ArenaPlan.Slot, _ rows: Int) -> Tensor { arena[slot, rows: min(rows, slot.rows)] }

  func memory(_ layer: Int, _ rows: Int) -> BlockMemory {
    let slots = layout.memories[layer]
    func tensor(_ slot: ArenaPlan.Slot) -> Tensor { scratch(slot, rows) }
    func statistics(_ slot: ArenaPlan.Slot) -> Tensor { arena[slot].columns(0..<min(rows, slot.columns)) }
    return BlockMemory(
      x: slots.x.rows == 0 ? nil : tensor(slots.x), xMiddle: slots.xMiddle.rows == 0 ? nil : tensor(slots.xMiddle),
      attentionRstd: statistics(slots.attentionRstd), mlpRstd: statistics(slots.mlpRstd),
      headNorms: slots.headNorms.map {
        HeadNormMemory(
          q: tensor($0.q), k: tensor($0.k), queryRstd: tensor($0.queryRstd), keyRstd: tensor($0.keyRstd))
      },
      q: tensor(slots.q), k: tensor(slots.k), v: tensor(slots.v), attended: tensor(slots.attended),
      logSumExp: arena[slots.logSumExp], gate: tensor(slots.gate), up: tensor(slots.up),
      lowRank: slots.lowRank.mapValues(tensor), unscaled: slots.unscaled.mapValues(tensor),
      halves: layout.halves.map {
        DroppedHalves(
          kept: tensor($0.kept), rest: tensor($0.rest), keptGradient: tensor($0.dKept), restGradient: tensor($0.dRest))
      })
  }

  /// What lies at a slot that is kept with the host: of as many rows as the batch has, or statistics in columns.
  func kept(_ slot: ArenaPlan.Slot, _ rows: Int) -> Tensor {
    slot.rows == layout.capacity ? arena[slot, rows: rows] : arena[slot]
  }

  /// Room for attention's backward pass over a batch, whose documents are each padded to whole tiles.
  private func workspace(for context: BlockContext) throws -> Tensor {
    let planned = arena[layout.workspace]
    let needed = device.attentionWorkspace(context.attention, context.spans, inPlace: layout.gradients == nil)
    if needed <= planned.byteCount { return planned }
    if let largeWorkspace, largeWorkspace.byteCount >= needed { return largeWorkspace }
    largeWorkspace = nil
    let columns = needed + needed / 4
    let larger = Tensor(try device.allocate(byteCount: columns), rows: 1, columns: columns, dtype: .uint8)
    largeWorkspace = larger
    return larger
  }

  private func gradients(_ rows: Int, workspace: Tensor) -> BlockGradients {
    BlockGradients(
      dx: arena[layout.x, rows: rows], dxOperand: scratch(layout.dxOperand, rows),
      dNormed: scratch(layout.dNormed, rows), normed: scratch(layout.normed, rows),
      activation: scratch(layout.activation, rows), dAttended: arena[layout.dAttended, rows: rows],
      heads: layout.gradients?.map { arena[$0, rows: rows] },
      lowRank: layout.lowRankGradients.mapValues { scratch($0, rows) }, workspace: workspace)
  }
}

extension PackedBatch {
  /// The batch with a last document of untrained tokens that makes its length a multiple of `alignment`: matrix
  /// products then meet few different shapes.
  ///
  /// Its gradients are exact zeros.
  func aligned(to alignment: Int) -> PackedBatch {
    let missing = (alignment - tokens.count % alignment) % alignment
    guard missing > 0 || tokens.isEmpty else { return self }
    var batch = self
    let filler = [Int32](repeating: 0, count: tokens.isEmpty ? alignment : missing)
    batch.append(filler, isTrained: filler.map { _ in false })
    return batch
  }
}
