import Tensors

/// The memory of forward and backward passes over batches of up to `capacity` tokens, and the passes themselves.
///
/// All of it is one arena, planned before anything is allocated. A layer has places of its own for what it keeps; what layers
/// compute again lies in a set of places that they share.
final class TrainingPass {
  /// The most tokens of a batch.
  let capacity: Int
  let recompute: RecomputePolicy
  private let layout: Layout
  private let arena: Arena
  /// Attention's workspace for batches of so many short documents that the planned one is too small.
  private var largeWorkspace: Tensor?
  private unowned let model: LanguageModel
  private var device: any Device { model.device }

  init(_ model: LanguageModel, capacity: Int, recompute: RecomputePolicy, headRows: Int) throws {
    self.model = model
    self.recompute = recompute
    let plan = Self.plan(model, capacity: capacity, recompute: recompute, headRows: headRows)
    self.capacity = plan.layout.capacity
    layout = plan.layout
    arena = try Arena(plan.arena, on: model.device)
  }

  /// Where everything will lie, and how many bytes that takes.
  static func plan(
    _ model: LanguageModel, capacity: Int, recompute: RecomputePolicy, headRows: Int
  ) -> (layout: Layout, arena: ArenaPlan, byteCount: Int) {
    let alignment = model.device.rowAlignment
    let rows = (max(capacity, 1) + alignment - 1) / alignment * alignment
    var arena = ArenaPlan()
    let layout = Layout(
      model.shape, model.device, adapter: model.adapter, isLearning: model.isLearning, capacity: rows,
      headRows: min(headRows, rows), recompute: recompute, in: &arena)
    return (layout, arena, arena.byteCount)
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
    let x = arena[layout.x, rows: rows]
    try model.embed(batch.tokens, into: x)
    try noise?.add(to: x, documents, on: device)
    for (index, block) in model.blocks.enumerated() {
      if let kept = layout.keptInputs[index] { try device.copy(x, to: arena[kept, rows: rows]) }
      try block.forward(
        x, memory(index, rows), normed: arena[layout.normed, rows: rows],
        activation: arena[layout.activation, rows: rows], context, on: device)
    }
    let loss = try head(batch, x, documents, scales, draw: observer?.draw)
    let gradients = gradients(rows, workspace: try workspace(for: context))
    for (index, block) in model.blocks.enumerated().reversed() {
      let memory = memory(index, rows)
      let level = recompute.level(of: index, of: model.blocks.count)
      if let kept = layout.keptInputs[index] { try device.copy(arena[kept, rows: rows], to: x) }
      if level < .everything {
        try block.forwardAgain(
          x, memory, normed: arena[layout.normed, rows: rows], activation: arena[layout.activation, rows: rows],
          context, on: device, kept: level)
      }
      if let observer { context.observe = { try observer.observe(index, $0, $1, $2) } }
      try block.backward(memory, gradients, context, isFirst: index == 0 && model.full == nil, on: device)
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
    let normed = try forward(batch)
    return try losses(
      of: trainedRows(batch, 0..<batch.tokens.count), batch, normed, scale: nil, rowLogits: rowLogits, tokenLosses)
  }

  /// See ``LanguageModel/documentLosses(_:)``.
  func documentLosses(_ batch: PackedBatch) throws -> [Double] {
    let normed = try forward(batch)
    return try batch.documents.map { try losses(of: trainedRows(batch, $0), batch, normed, scale: nil, nil) }
  }

  /// The forward pass alone, through the final norm: compute `[T, hidden]`.
  private func forward(_ batch: PackedBatch) throws -> Tensor {
    let batch = batch.aligned(to: device.rowAlignment)
    let rows = batch.tokens.count
    let context = try context(for: batch, dropout: nil)
    let x = arena[layout.x, rows: rows]
    try model.embed(batch.tokens, into: x)
    for block in model.blocks {
      // Nothing is kept: every layer may use the last one's memory.
      try block.forward(
        x, memory(model.blocks.count - 1, rows), normed: arena[layout.normed, rows: rows],
        activation: arena[layout.activation, rows: rows], context, on: device)
    }
    return try finalNorm(x)
  }

  private func finalNorm(_ x: Tensor) throws -> Tensor {
    let normed = arena[layout.normed, rows: x.rows]
    try device.rmsNorm(
      x, model.finalNorm, epsilon: Float(model.configuration.rmsNormEpsilon), into: normed,
      rstd: arena[layout.headRstd].columns(0..<x.rows), saved: arena[layout.headSaved, rows: x.rows])
    return normed
  }

  /// The final norm, the head and the cross-entropy of the trained rows.
  ///
  /// Leaves the residual stream's gradient in place for the blocks. `draw` chooses other targets than the batch's.
  private func head(
    _ batch: PackedBatch, _ x: Tensor, _ documents: [Range<Int>], _ scales: LossScales,
    draw: ((Tensor) throws -> [Int32])? = nil
  ) throws -> Double {
    let rows = batch.tokens.count
    let normed = try finalNorm(x)
    let saved = arena[layout.headSaved, rows: rows]
    let rstd = arena[layout.headRstd].columns(0..<rows)
    let dNormed = arena[layout.dNormed, rows: rows]
    try device.zero(dNormed)
    var loss = 0.0
    switch scales {
    case .uniform(let scale):
      loss = try losses(of: trainedRows(batch, 0..<rows), batch, normed, scale: scale, draw: draw, nil)
    case .byDocument(let weigh):
      // What a document counts depends on all losses: they are computed first, and the head a second time.
      let trained = documents.map { trainedRows(batch, $0) }
      let found = try trained.map { try losses(of: $0, batch, normed, scale: nil, nil) }
      for (rows, scale) in zip(trained, weigh(found)) where scale != 0 {
        _ = try losses(of: rows, batch, normed, scale: scale, nil)
      }
      loss = found.reduce(0, +)
    }
    if let gradient = try model.full?.gradient(FullParameters.finalNormName) {
      try device.addColumnSums(of: dNormed, times: saved, rowScales: rstd, to: gradient)
    }
    let dx = arena[layout.dx, rows: rows]
    try device.zero(dx)
    try device.rmsNormBackward(
      dNormed, saved: saved, rstd: rstd, model.finalNorm, addingTo: dx, copy: arena[layout.dxOperand, rows: rows])
    return loss
  }

  private func trainedRows(_ batch: PackedBatch, _ rows: Range<Int>) -> [Int32] {
    rows.filter { batch.targets[$0] >= 0 }.map { Int32($0) }
  }

  /// The summed loss of rows, `headRows` of them at a time, so that logits never exist whole; with a `scale`, their
  /// gradient goes into the place of the final norm's output.
  private func losses(
    of trained: [Int32], _ batch: PackedBatch, _ normed: Tensor, scale: Float?,
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
      try device.gather(normed, rows: chunk, to: input)
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
        try device.scatter(dInput, to: arena[layout.dNormed, rows: normed.rows], rows: chunk)
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
      longest: batch.documents.map(\.count).max() ?? 1, dropout: dropout)
  }

  private func memory(_ layer: Int, _ rows: Int) -> BlockMemory {
    let slots = layout.memories[layer]
    return BlockMemory(
      x: arena[slots.x, rows: rows], xMiddle: arena[slots.xMiddle, rows: rows],
      attentionRstd: arena[slots.attentionRstd].columns(0..<rows), mlpRstd: arena[slots.mlpRstd].columns(0..<rows),
      headNorms: slots.headNorms.map {
        HeadNormMemory(
          q: arena[$0.q, rows: rows], k: arena[$0.k, rows: rows], queryRstd: arena[$0.queryRstd, rows: rows],
          keyRstd: arena[$0.keyRstd, rows: rows])
      },
      q: arena[slots.q, rows: rows], k: arena[slots.k, rows: rows], v: arena[slots.v, rows: rows],
      attended: arena[slots.attended, rows: rows], logSumExp: arena[slots.logSumExp],
      gate: arena[slots.gate, rows: rows], up: arena[slots.up, rows: rows],
      lowRank: slots.lowRank.mapValues { arena[$0, rows: rows] },
      unscaled: slots.unscaled.mapValues { arena[$0, rows: rows] },
      halves: layout.halves.map {
        DroppedHalves(
          kept: arena[$0.kept, rows: rows], rest: arena[$0.rest, rows: rows],
          keptGradient: arena[$0.dKept, rows: rows], restGradient: arena[$0.dRest, rows: rows])
      })
  }

  /// Room for attention's backward pass over a batch, whose documents are each padded to whole tiles.
  private func workspace(for context: BlockContext) throws -> Tensor {
    let planned = arena[layout.workspace]
    let needed = device.attentionWorkspace(context.attention, context.spans)
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
      dx: arena[layout.dx, rows: rows], dxOperand: arena[layout.dxOperand, rows: rows],
      dNormed: arena[layout.dNormed, rows: rows], normed: arena[layout.normed, rows: rows],
      activation: arena[layout.activation, rows: rows], dAttended: arena[layout.dAttended, rows: rows],
      dq: arena[layout.dq, rows: rows], dk: arena[layout.dk, rows: rows], dv: arena[layout.dv, rows: rows],
      lowRank: layout.lowRankGradients.mapValues { arena[$0, rows: rows] }, workspace: workspace)
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
