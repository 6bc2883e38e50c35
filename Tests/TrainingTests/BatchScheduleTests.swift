import Models
import Testing

@testable import Training

@Suite struct BatchScheduleTests {
  static func lengths(_ count: Int, upTo longest: Int, seed: UInt64) -> [Int] {
    var random = RandomSource(seed: seed)
    return (0..<count).map { _ in 1 + random.next(below: longest) }
  }

  static let allOptions: [BatchSchedule.Options] = {
    var all: [BatchSchedule.Options] = []
    for packing in [true, false] {
      for shuffle in [true, false] {
        for (size, accumulation) in [(1, 1), (2, 4), (5, 3)] {
          all.append(
            .init(
              batchSize: size, gradientAccumulation: accumulation, maxSequenceLength: 100, packing: packing,
              shuffle: shuffle, seed: 7))
        }
      }
    }
    return all
  }()

  @Test(arguments: allOptions) func everyExampleIsSeenOncePerEpoch(options: BatchSchedule.Options) {
    for count in [1, 2, 9, 137] {
      let lengths = Self.lengths(count, upTo: 100, seed: 3)
      let schedule = BatchSchedule(lengths: lengths, options: options)
      for number in 0..<3 {
        let epoch = schedule.epoch(number)
        #expect(epoch.microBatches.joined().sorted() == Array(0..<count))
        #expect(epoch.microBatches.count == schedule.microBatchesPerEpoch)
        var steps: [[Int]] = []
        for step in 0..<schedule.stepsPerEpoch {
          let batches = epoch.microBatches(ofStep: step)
          #expect(!batches.isEmpty && batches.count <= options.gradientAccumulation)
          steps += batches
        }
        #expect(steps == epoch.microBatches)
        #expect(epoch.microBatches(ofStep: schedule.stepsPerEpoch).isEmpty)
        let limit = options.batchSize * options.maxSequenceLength
        for batch in epoch.microBatches { #expect(batch.reduce(0) { $0 + lengths[$1] } <= limit) }
        if !options.packing { #expect(epoch.microBatches.allSatisfy { $0.count <= options.batchSize }) }
      }
    }
  }

  @Test(arguments: allOptions) func anyStepIsReachedWithoutThoseBefore(options: BatchSchedule.Options) {
    let lengths = Self.lengths(61, upTo: 100, seed: 4)
    let unbroken = BatchSchedule(lengths: lengths, options: options)
    let total = unbroken.totalSteps(epochs: 3)
    #expect(total == 3 * unbroken.stepsPerEpoch)
    let all = (0..<total).map { step -> [[Int]] in
      let position = unbroken.position(ofStep: step)
      return Array(unbroken.epoch(position.epoch).microBatches(ofStep: position.step))
    }
    for start in [0, 1, total / 2, total - 1] {
      let resumed = BatchSchedule(lengths: lengths, options: options)
      for step in start..<total {
        let position = resumed.position(ofStep: step)
        #expect(Array(resumed.epoch(position.epoch).microBatches(ofStep: position.step)) == all[step])
      }
    }
  }

  @Test func orderDependsOnSeedAndEpochAlone() {
    let lengths = Self.lengths(50, upTo: 100, seed: 5)
    func order(_ seed: UInt64, _ epoch: Int, shuffle: Bool = true) -> [Int] {
      let options = BatchSchedule.Options(batchSize: 1, packing: false, shuffle: shuffle, seed: seed)
      return Array(BatchSchedule(lengths: lengths, options: options).epoch(epoch).microBatches.joined())
    }
    #expect(order(1, 0) == order(1, 0))
    #expect(order(1, 0) != order(1, 1))
    #expect(order(1, 0) != order(2, 0))
    #expect(order(1, 0) != Array(0..<50))
    #expect(order(1, 4, shuffle: false) == Array(0..<50))
  }

  @Test func totalSteps() {
    let schedule = BatchSchedule(
      lengths: Array(repeating: 10, count: 100),
      options: .init(batchSize: 2, gradientAccumulation: 4, packing: false))
    #expect(schedule.stepsPerEpoch == 13)
    #expect(schedule.totalSteps(epochs: 1) == 13)
    #expect(schedule.totalSteps(epochs: 2.5) == 33)
    #expect(schedule.totalSteps(epochs: 0.001) == 1)
    #expect(schedule.totalSteps(epochs: 1, maxSteps: 60) == 60)
    #expect(schedule.totalSteps(epochs: 1e300) == Int.max)
    #expect(BatchSchedule(lengths: [], options: .init()).totalSteps(epochs: 3) == 0)
    #expect(BatchSchedule(lengths: [], options: .init()).position(ofStep: 3) == (0, 0))
  }

  @Test func packingWastesLittle() {
    let lengths = Self.lengths(2000, upTo: 700, seed: 6)
    var packer = BestFitPacker(capacity: 2048)
    for (i, length) in lengths.enumerated().sorted(by: { ($0.element, $1.offset) > ($1.element, $0.offset) }) {
      packer.add(i, length: length)
    }
    let fewest = (lengths.reduce(0, +) + 2047) / 2048
    #expect(packer.rows.count <= fewest + fewest / 100 + 1)
  }

  @Test func packerAgreesWithAPlainSearch() {
    for capacity in [1, 63, 64, 65, 4095, 4096, 10_000] {
      let lengths = Self.lengths(300, upTo: capacity + capacity / 10, seed: UInt64(capacity))
      var packer = BestFitPacker(capacity: capacity)
      var spaces: [Int] = []
      for (i, length) in lengths.enumerated() {
        packer.add(i, length: length)
        let fits = spaces.indices.filter { spaces[$0] >= min(length, capacity) }
        if let best = fits.min(by: { spaces[$0] < spaces[$1] }) {
          spaces[best] -= length
        } else {
          spaces.append(capacity - min(length, capacity))
        }
      }
      let used = packer.rows.map { row in row.reduce(0) { $0 + min(lengths[$1], capacity) } }
      #expect(used.allSatisfy { $0 <= capacity })
      #expect(used.map { capacity - $0 }.sorted() == spaces.sorted())
    }
  }
}
