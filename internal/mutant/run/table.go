package main

import "github.com/chromad/chromad/internal/mutant"

// suite is tests of one package, and the flags with which .ci/run runs them.
type suite struct {
	pkg   string
	tests string // a name, or a regular expression of names
	flags []string
}

var (
	logModel   = suite{"wal", "TestModel", nil}
	logSyncs   = suite{"wal", "TestFailedSync", nil}
	logFull    = suite{"wal", "TestDiskFull", nil}
	logFlips   = suite{"wal", "TestBitFlips", nil}
	logForks   = suite{"wal", "TestForkedFrame", nil}
	logMark    = suite{"wal", "TestMark", nil}
	fileCuts   = suite{"internal/disk", "TestPowerCut", nil}
	fileFlips  = suite{"internal/disk", "TestEveryBit", nil}
	misplaced  = suite{"internal/disk", "TestBlocksOfAnotherFile", nil}
	decoders   = suite{"internal/disk", "TestDecoderErrors", nil}
	entries    = suite{"engine", "FuzzDecode.*", nil}
	memory     = suite{"segment", "TestMemory", nil}
	sharing    = suite{"segment", "TestConcurrent", nil}
	cutOff     = suite{"cmd/chromad", "TestTruncatedUnderQueries", nil}
	mapped     = suite{"cmd/chromad", "TestMappedComeAndGo", nil}
	powerCuts  = suite{"engine", "TestPowerCut", []string{"-powercut.seeds=10000"}}
	manyCuts   = suite{"engine", "TestPowerCutConcurrent", []string{"-powercut.seeds=2000"}}
	kills      = suite{"cmd/chromad", "TestKill", []string{"-kill.n=200"}}
	histories  = suite{"engine", "TestLinearizable", []string{"-linear.ops=200000"}}
	faults     = suite{"engine", "TestFaultEverywhere", nil}
	crossing   = suite{"engine", "TestSyncOfAnotherFails", nil}
	dirSyncs   = suite{"internal/vfs", "TestInTurn", nil}
	edits      = suite{"engine", "TestEditIsDurableFirst", nil}
	newest     = suite{"engine", "TestNewestCheckpointDamaged", nil}
	damage     = suite{"engine", "TestDamage", nil}
	batches    = suite{"engine", "TestWholeBatches", nil}
	options    = suite{"engine", "TestMetamorphic", nil}
	conditions = suite{"filter", "TestIndexAgainstMatch", nil}
	selections = suite{"fuzz", "FuzzWhere", nil}
	again      = suite{"segment", "TestAgain", nil}
	teams      = suite{"engine", "TestConditionAgain", nil}
	sealers    = suite{"internal/keys", "TestSealerBinds", nil}
	keyCuts    = suite{"internal/keys", "TestPowerCut", nil}
	keyFiles   = suite{"internal/keys", "TestPlainFiles", nil}
	wrongKeys  = suite{"engine", "TestWrongKey", nil}
	deletions  = suite{"engine", "TestDeleteDestroysKeys", nil}
	envelopes  = suite{"engine", "TestEnvelope", nil}
	thePage    = suite{"engine", "TestSecurityPage", nil}
	nonces     = suite{"engine", "TestNonces", nil}
	swaps      = suite{"engine", "TestSwappedBlocks", nil}
	canaries   = suite{"engine", "TestCanaries", nil}
	erasing    = suite{"engine", "TestEraseNow", nil}
	eraseCuts  = suite{"engine", "TestEraseCrash", nil}
	rotations  = suite{"engine", "TestRotateDamaged", nil}
	oldViews   = suite{"engine", "TestRotateKeepsKeys", nil}
	keyAway    = suite{"engine", "TestKeyAwayOnce", nil}
)

// row is a mutant and the suites of which each has to find it.
type row struct {
	name   mutant.Name
	suites []suite
}

var table = []row{
	{mutant.LogNotSynced, []suite{logModel, powerCuts, manyCuts}},
	{mutant.LogDirNotSynced, []suite{logModel, powerCuts}},
	{mutant.LastFrameNotCarried, []suite{logModel}},
	{mutant.ShortWriteKept, []suite{logModel, logFull, powerCuts}},
	{mutant.SyncRetried, []suite{logModel, logSyncs, faults}},
	{mutant.FileNotSynced, []suite{fileCuts, powerCuts}},
	{mutant.DirNotSynced, []suite{fileCuts, powerCuts}},
	{mutant.DirSyncRetried, []suite{dirSyncs, crossing}},
	{mutant.ReleasedEarly, []suite{powerCuts}},
	{mutant.EditInstalledEarly, []suite{edits, powerCuts}},
	{mutant.OldCheckpointUsed, []suite{newest, powerCuts}},
	{mutant.ReplayedTwice, []suite{powerCuts, kills}},
	{mutant.BatchSplit, []suite{batches, powerCuts}},
	{mutant.MarkIgnored, []suite{logModel, logMark}},
	{mutant.CheckpointedInFlight, []suite{powerCuts}},
	{mutant.FrameSumIgnored, []suite{logModel, logFlips}},
	{mutant.ChainIgnored, []suite{logForks}},
	{mutant.BlockSumIgnored, []suite{fileFlips, damage}},
	{mutant.AddressNotSummed, []suite{misplaced}},
	{mutant.LengthBelieved, []suite{decoders, entries}},
	{mutant.FaultNotCaught, []suite{cutOff}},
	{mutant.ReaderClosedInUse, []suite{sharing}},
	{mutant.HandleClosedInUse, []suite{mapped}},
	{mutant.EvictedInUse, []suite{memory}},
	{mutant.MergeDropsLateDead, []suite{powerCuts}},
	{mutant.MergeResurrects, []suite{powerCuts, options}},
	{mutant.UpdateMoves, []suite{powerCuts, options}},
	{mutant.StaleView, []suite{histories}},
	{mutant.MissingKeyEqual, []suite{conditions, selections, options}},
	{mutant.StaleCopies, []suite{again, teams}},
	{mutant.NonceReused, []suite{sealers, nonces}},
	{mutant.PaddingLeaks, []suite{canaries}},
	{mutant.BlockNotBound, []suite{sealers, swaps}},
	{mutant.KeyNotDestroyed, []suite{keyCuts, deletions}},
	{mutant.KeyRemovalNotSynced, []suite{keyCuts, deletions}},
	{mutant.KeyDroppedEarly, []suite{rotations, oldViews}},
	{mutant.PlainAccepted, []suite{keyFiles, wrongKeys}},
	{mutant.EntryUnderStoreKey, []suite{envelopes, thePage}},
	{mutant.EraseKeepsRows, []suite{erasing}},
	{mutant.RefusedForgotten, []suite{keyAway}},
	{mutant.EraseNotDurable, []suite{eraseCuts}},
}
