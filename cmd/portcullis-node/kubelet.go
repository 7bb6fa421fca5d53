package main

import (
	"context"
	"errors"

	"github.com/portcullis-csi/portcullis/driver/registration"
)

// Why kubelet does not call the plugin, where it was told of it.
var (
	errNotRegistered = errors.New("kubelet has not registered the plugin; hint: set --kubelet-registration-path, or check the node-driver-registrar container")
	errOtherSocket   = errors.New("kubelet registered a CSI socket and this plugin was not asked; hint: check that --kubelet-registration-path is the socket of --endpoint as kubelet sees it")
)

// makeRegistrar makes the part that tells kubelet of the plugin, unless a
// sidecar does.
func (p *plugin) makeRegistrar() error {
	if p.o.registrationPath == "" {
		return nil
	}
	var err error
	p.registrar, err = registration.New(registration.Config{
		Dir: p.o.registrationDir, DriverName: p.o.driverName, Endpoint: p.o.registrationPath, Logger: p.logger,
	})
	return err
}

// register tells kubelet of the plugin until ctx ends. The CSI socket is there
// by then, since kubelet calls it at once.
func (p *plugin) register(ctx context.Context) {
	if p.registrar != nil {
		p.registrar.Run(ctx)
	}
}

// registered returns nil if kubelet calls this plugin.
func (p *plugin) registered() error {
	if p.registrar != nil {
		if err := p.registrar.Err(); err != nil {
			return err
		}
		if !p.driver.Registered() {
			return errOtherSocket
		}
	}
	if !p.driver.Registered() {
		return errNotRegistered
	}
	return nil
}
