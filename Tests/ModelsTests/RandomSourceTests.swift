import Testing

@testable import Models

@Suite struct RandomSourceTests {
  @Test func knownSequences() {
    // SplitMix64 of state 0 and Xoshiro256++ of state 1, 2, 3, 4: the values of the authors' C code.
    var seeder = SplitMix64(state: 0)
    #expect(seeder.next() == 0xE220_A839_7B1D_CDAF)
    #expect(seeder.next() == 0x6E78_9E6A_A1B9_65F4)
    var random = RandomSource(state: [1, 2, 3, 4])
    #expect(random?.next() == 41_943_041)
    #expect(random?.next() == 58_720_359)
    #expect(random?.next() == 3_588_806_011_781_223)
  }

  @Test func continuesFromItsState() {
    var random = RandomSource(seed: 3407, stream: 2)
    for _ in 0..<10 { _ = random.next() }
    var copy = RandomSource(state: random.state)
    for _ in 0..<10 { #expect(copy?.next() == random.next()) }
    #expect(RandomSource(state: [0, 0, 0, 0]) == nil)
    #expect(RandomSource(state: [1]) == nil)
    #expect(RandomSource(seed: 1, stream: 2) != RandomSource(seed: 2, stream: 1))
  }

  @Test func boundedNumbersAreEven() {
    var random = RandomSource(seed: 1)
    var counts = Array(repeating: 0, count: 6)
    for _ in 0..<60_000 { counts[random.next(below: 6)] += 1 }
    #expect(counts.allSatisfy { abs($0 - 10_000) < 500 })
    #expect(random.next(below: 0) == 0 && random.next(below: 1) == 0)
  }
}
