// Package mutant plants bugs, so that the tests are tested too. A hook in the
// product reads
//
//	if mutant.On(mutant.FrameSumIgnored) { … }
//
// and has the bug on the spot. In a normal build On is constantly false, and
// the compiler drops call and branch. Built with the tag mutants, On is true
// for the one mutant that CHROMAD_MUTANT names. The program in run builds the
// tests that way and demands that the suites find every mutant (make mutants).
package mutant

// Name names a planted bug.
type Name string

// Bugs in what is durable when, and in what order.
const (
	LogNotSynced         Name = "log-not-synced"         // a write is acknowledged before its frame is synced
	LogDirNotSynced      Name = "log-dir-not-synced"     // a new file of the log and its mark may lose their names
	LastFrameNotCarried  Name = "last-frame-not-carried" // recovery takes the last frame that it could read for durable
	ShortWriteKept       Name = "short-write-kept"       // what a full disk took of a frame stays, and the next one follows it
	SyncRetried          Name = "sync-retried"           // a failed sync is tried again, and success is believed
	FileNotSynced        Name = "file-not-synced"        // a file is renamed before it is synced
	DirNotSynced         Name = "dir-not-synced"         // the directory is not synced after the renaming
	DirSyncRetried       Name = "dir-sync-retried"       // a directory is synced after a sync of it failed, and success is believed
	ReleasedEarly        Name = "released-early"         // the log goes before the checkpoint that replaces it is durable
	EditInstalledEarly   Name = "edit-installed-early"   // an edit counts before it is durable
	OldCheckpointUsed    Name = "old-checkpoint-used"    // of two checkpoints the older one is read
	ReplayedTwice        Name = "replayed-twice"         // recovery applies entries that are in segments
	BatchSplit           Name = "batch-split"            // a call's records are several entries
	MarkIgnored          Name = "mark-ignored"           // nobody misses the newest file of the log
	CheckpointedInFlight Name = "checkpointed-in-flight" // a checkpoint ignores entries on their way into a memtable
)

// Bugs in what is believed of a file.
const (
	FrameSumIgnored   Name = "frame-sum-ignored"    // a frame of the log is not compared with its checksum
	ChainIgnored      Name = "chain-ignored"        // a frame may follow any other
	BlockSumIgnored   Name = "block-sum-ignored"    // a block is not compared with its checksum
	AddressNotSummed  Name = "address-not-summed"   // a block is accepted in the place of another
	LengthBelieved    Name = "length-believed"      // memory is given by a number in a file
	FaultNotCaught    Name = "fault-not-caught"     // a file that is cut off while it is read ends the process
	ReaderClosedInUse Name = "reader-closed-in-use" // a segment is unmapped under those who read it
	HandleClosedInUse Name = "handle-closed-in-use" // a segment is closed while a query holds it
	EvictedInUse      Name = "evicted-in-use"       // decrypted memory goes while somebody reads it
)

// Bugs in what is answered.
const (
	MergeDropsLateDead Name = "merge-drops-late-dead" // compaction drops rows that died after the last flush
	MergeResurrects    Name = "merge-resurrects"      // what is deleted while a compaction runs is back after it
	UpdateMoves        Name = "update-moves"          // an updated record takes a new place in the order
	StaleView          Name = "stale-view"            // a view misses writes that had returned
	MissingKeyEqual    Name = "missing-key-equal"     // $ne is false for records when none has the value
	StaleCopies        Name = "stale-copies"          // copies of the rows of a condition are used when others of them have died
)

// Bugs in encryption and erasure.
const (
	NonceReused         Name = "nonce-reused"           // every block of a file is sealed with the same nonce
	PaddingLeaks        Name = "padding-leaks"          // between two sections there is what was in memory
	BlockNotBound       Name = "block-not-bound"        // the number of a block is not authenticated
	KeyNotDestroyed     Name = "key-not-destroyed"      // the key of a deleted collection stays on the disk
	KeyRemovalNotSynced Name = "key-removal-not-synced" // the same: removed, and back after a power cut
	KeyDroppedEarly     Name = "key-dropped-early"      // a rotation drops keys that files are still under
	PlainAccepted       Name = "plain-accepted"         // an encrypted store takes files that are not
	EntryUnderStoreKey  Name = "entry-under-store-key"  // a collection's entries outlive its key
	EraseKeepsRows      Name = "erase-keeps-rows"       // erasing leaves dead rows in their segments
	RefusedForgotten    Name = "refused-forgotten"      // entries that a broken collection cannot take are let go of
	EraseNotDurable     Name = "erase-not-durable"      // erased files may come back after a power cut
)
