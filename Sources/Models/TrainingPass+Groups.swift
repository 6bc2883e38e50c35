import Tensors

// Layers in groups: of the forward pass only the input of each group's first layer is kept. The backward pass computes a group
// forward once more from there, keeps what its layers need, and takes them backward one by one.

extension TrainingPass {
  /// What goes to a place of the host's memory, and comes back.
  struct Trip {
    var place: Int
    var slots: [ArenaPlan.Slot]
  }

  /// Where layers in groups keep what they keep.
  struct GroupLayout {
    private(set) var ranges: [Range<Int>]
    /// By layer.
    private(set) var memories: [MemorySlots] = []
    private(set) var inputs: [ArenaPlan.Slot] = []
    /// By layer: what is there when it goes backward.
    private(set) var keeps: [LayerMemory] = []
    /// By first layer of a group: its input's way to the host, where that is kept there from the forward pass on.
    private(set) var checkpoints: [Int: Trip] = [:]
    /// By layer: the way of what is kept while its group is computed backward.
    private(set) var trips: [Int: Trip] = [:]
    /// Bytes of the places in the host's memory.
    private(set) var hostPlaces: [Int] = []

    /// Whether a group of several layers is computed again.
    var computesAgain: Bool { ranges.dropLast().contains { $0.count > 1 } }

    init(
      _ grouping: ActivationPlan.Grouping, _ extent: Extent, _ maker: Maker, _ device: any Device,
      in plan: inout ArenaPlan
    ) {
      let (shape, rounds) = (extent.shape, extent.plan.roundsInputs)
      ranges = grouping.groups(of: shape.layerCount)
      let shared = maker.shared(for: .input, holdsInput: !rounds, in: &plan)
      func input(in plan: inout ArenaPlan) -> ArenaPlan.Slot {
        maker.input(rounds ? device.computeType : device.residualType, in: &plan)
      }
      // What does not stay on the device passes through one place, and so do the inputs of groups' last layers, which go backward
      // next. Attention's output passes through the place in which it is computed.
      var turn: ArenaPlan.Slot?
      var kept: [Int: (memory: MemorySlots, input: ArenaPlan.Slot)] = [:]
      func host(_ slots: [ArenaPlan.Slot]) -> Trip {
        hostPlaces.append(slots.reduce(0) { $0 + $1.byteCount })
        return Trip(place: hostPlaces.count - 1, slots: slots)
      }
      var places: [Int: Trip] = [:]
      for group in ranges {
        for index in group {
          let (position, isLast) = (index - group.lowerBound, index == group.upperBound - 1)
          let level: LayerMemory = position < grouping.attentions && !isLast ? .attention : .input
          let staysHere = position == 0 ? !extent.plan[index].isOnHost : !isLast && !grouping.isOnHost
          var (memory, slot): (MemorySlots, ArenaPlan.Slot?) = (shared, nil)
          if !grouping.isOnHost, !isLast {
            // Of all groups: only one is computed backward at a time.
            let own =
              kept[position]
              ?? (
                maker.memory(keeping: level, sharing: shared, in: &plan),
                position == 0 ? shared.attended : input(in: &plan)
              )
            kept[position] = own
            memory = own.memory
            if position > 0 { slot = own.input }
          }
          if position == 0, staysHere { slot = input(in: &plan) }
          let place = slot ?? turn ?? input(in: &plan)
          if slot == nil { turn = place }
          if rounds { memory.x = place }
          memories.append(memory)
          inputs.append(place)
          keeps.append(level)
          if position == 0, !staysHere { checkpoints[index] = host([place]) }
          guard grouping.isOnHost, !isLast else { continue }
          let slots = (position > 0 ? [place] : []) + (level == .attention ? [memory.attended, memory.logSumExp] : [])
          guard !slots.isEmpty else { continue }
          let trip = places[position] ?? host(slots)
          places[position] = trip
          trips[index] = Trip(place: trip.place, slots: slots)
        }
      }
    }
  }

  /// The forward pass over all layers, which leaves the residual stream after them in `x`.
  func forward(_ groups: GroupLayout, _ x: Tensor, _ context: BlockContext) throws {
    var traffic = GroupTraffic(store: hostStore)
    for group in groups.ranges {
      try traffic.settle()
      try device.copy(x, to: tensor(groups.inputs[group.lowerBound], x.rows))
      if let trip = groups.checkpoints[group.lowerBound] {
        try traffic.store(tensors(of: trip, x.rows), in: trip.place)
      }
      try forward(
        group, groups, x, keeps: group.upperBound == model.blocks.count, context, &traffic)
    }
    try traffic.settle()
  }

  /// Layers of a group; `keeps`: what they need to go backward.
  private func forward(
    _ layers: Range<Int>, _ groups: GroupLayout, _ x: Tensor, keeps: Bool, _ context: BlockContext,
    _ traffic: inout GroupTraffic
  ) throws {
    for index in layers {
      try traffic.settle()
      // The group's own input is there.
      if keeps, index > layers.lowerBound { try device.copy(x, to: tensor(groups.inputs[index], x.rows)) }
      var memory = memory(index, x.rows)
      // Where the norm's copy of it lies, another layer's may lie still.
      memory.x = nil
      try model.blocks[index].forward(
        x, memory, normed: scratch(layout.normed, x.rows), activation: scratch(layout.activation, x.rows), context,
        on: device)
      if keeps, let trip = groups.trips[index] { try traffic.store(tensors(of: trip, x.rows), in: trip.place) }
    }
  }

  /// The backward pass over the layers from `lowest` on; `gradients.dx` is the residual stream's gradient before and after.
  func backward(
    _ groups: GroupLayout, _ gradients: BlockGradients, _ context: BlockContext, lowest: Int,
    observing: (Int) -> ((_ modules: [TargetModule], _ x: Tensor, _ gradients: [Tensor]) throws -> Void)?
  ) throws {
    let rows = gradients.dx.rows
    var (context, traffic) = (context, GroupTraffic(store: hostStore))
    for group in groups.ranges.reversed() where group.upperBound > lowest {
      let (first, last) = (group.lowerBound, group.upperBound - 1)
      if group.upperBound < model.blocks.count, first < last, let slot = layout.groupStream {
        let x = arena[slot, rows: rows]
        if let trip = groups.checkpoints[first] { try traffic.fetch(trip.place, into: tensors(of: trip, rows)) }
        try device.copy(tensor(groups.inputs[first], rows), to: x)
        try forward(first..<last, groups, x, keeps: true, context, &traffic)
        try traffic.settle()
        try device.copy(x, to: tensor(groups.inputs[last], rows))
      }
      for index in group.reversed() where index >= lowest {
        // The input of a group's last layer, where it is not its first one, has gone nowhere.
        if let trip = groups.checkpoints[index] { try traffic.fetch(trip.place, into: tensors(of: trip, rows)) }
        if let trip = groups.trips[index] { try traffic.fetch(trip.place, into: tensors(of: trip, rows)) }
        let again = BlockRecomputation(
          kept: groups.keeps[index], input: tensor(groups.inputs[index], rows),
          stream: layout.stream.map { scratch($0, rows) })
        context.observe = observing(index)
        let memory = memory(index, rows)
        try model.blocks[index].backward(
          memory, gradients, context, again: again,
          isFirst: index == 0 && model.full == nil, on: device)
      }
    }
  }

  private func tensor(_ slot: ArenaPlan.Slot, _ rows: Int) -> Tensor { arena[slot, rows: rows] }

  private func tensors(of trip: Trip, _ rows: Int) -> [Tensor] { trip.slots.map { kept($0, rows) } }
}

/// Transfers of one place that all that travels passes through: each is over before anything else is written there.
private struct GroupTraffic {
  let store: (any HostStore)?
  /// The place in the host's memory to which something is on its way.
  private var pending: Int?

  init(store: (any HostStore)?) { self.store = store }

  /// Work that is asked for from now on may write what was stored.
  mutating func settle() throws {
    if let pending { try store?.wait(pending) }
    pending = nil
  }

  mutating func store(_ tensors: [Tensor], in place: Int) throws {
    try settle()
    try store?.store(tensors, in: place)
    pending = place
  }

  mutating func fetch(_ place: Int, into tensors: [Tensor]) throws {
    try settle()
    try store?.fetch(place, into: tensors)
    try store?.wait(place)
  }
}
