package engine

// audit verifies the audit log and tells what is wrong with it.
func (k *checkup) audit() error {
	report, err := k.db.verifyAudit(k.ctx, AuditExpect{})
	if err != nil {
		return err
	}
	for _, dir := range []string{auditDir, auditLogDir} {
		infos, err := k.listed(dir)
		if err != nil {
			return err
		}
		for _, i := range infos {
			if i.Regular {
				k.step(i.Size)
			}
		}
	}
	for _, f := range report.Findings {
		k.report.Findings = append(k.report.Findings, Finding{Severity: Damage, File: f.File, Text: "audit log: " + f.Text})
	}
	return nil
}

// copyAudit takes the audit log over as it is: what it proves, and what is
// damaged in it, is the same in the new store.
func (r *repair) copyAudit() error {
	for _, dir := range []string{auditDir, auditLogDir, auditDamagedDir} {
		infos, err := r.db.fs.List(dir)
		if isNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := r.to.Mkdir(dir); err != nil {
			return err
		}
		for _, i := range infos {
			if !i.Regular || dir+"/"+i.Name == auditReserve {
				continue
			}
			if err := copyFile(r.ctx, r.db.fs, r.to, dir+"/"+i.Name); err != nil {
				return err
			}
		}
		if err := r.to.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}
